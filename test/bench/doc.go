package main

import (
	"fmt"
	"os"
	"strings"
)

// fill replaces the text between the markers <!-- bench:NAME --> and <!-- bench:NAME end --> of each block in a Markdown file.
func fill(path string, blocks map[string]string) error {
	raw, err := os.ReadFile(path) //nolint:gosec // G304: named by the caller
	if err != nil {
		return err
	}
	text := string(raw)
	for name, block := range blocks {
		begin, end := "<!-- bench:"+name+" -->\n", "<!-- bench:"+name+" end -->\n"
		before, rest, found := strings.Cut(text, begin)
		_, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			return fmt.Errorf("%s has no lines %q and %q", path, strings.TrimSpace(begin), strings.TrimSpace(end))
		}
		text = before + begin + "\n" + block + "\n" + end + after
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // G306: a document for everybody
}
