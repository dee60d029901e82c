// Command recording runs kvcsi demo and draws what it prints as an animated picture, docs/demo.svg, for the README and the site.
//
// The text is that of a real run. The times are not: a run takes about a second, so lines appear at the pace of a reader.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const (
	picture = "docs/demo.svg"
	prompt  = "$ kvcsi demo"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	lines, err := record(ctx, "bin/kvcsi")
	if err != nil {
		return err
	}
	return os.WriteFile(picture, []byte(draw(lines)), 0o644) //nolint:gosec // G306: a picture that everybody may read
}

// record runs the demo of the program and returns the lines of a terminal: the command and what it printed.
func record(ctx context.Context, kvcsi string) ([]string, error) {
	command := exec.CommandContext(ctx, kvcsi, "demo")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s demo: %w", kvcsi, err)
	}
	return append([]string{prompt}, strings.Split(strings.TrimRight(string(out), "\n"), "\n")...), nil
}
