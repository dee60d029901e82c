// Command check checks the built site.
//
//	check links -repository DIR SITE   every link inside the site has its file and anchor; external links are listed
//	check browser -shots DIR SITE      pages in chromium: overflow, errors of the console, contrast, search
//
// It reads the files that hugo wrote and knows nothing of how they are made. It fetches nothing from a network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: check links|browser [flags] SITE")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	switch args[0] {
	case "links":
		root := flags.String("repository", ".", "`folder` of the repository, which links to files on GitHub are checked against")
		_ = flags.Parse(args[1:])
		return report(checkLinks(flags.Arg(0), *root))
	case "browser":
		shots := flags.String("shots", "", "`folder` for screenshots; none without it")
		_ = flags.Parse(args[1:])
		return report(checkBrowser(ctx, flags.Arg(0), *shots))
	default:
		return fmt.Errorf("unknown check %q: links or browser", args[0])
	}
}

// report makes one error of the problems that a check has found.
func report(problems []string, err error) error {
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("%d problems:\n  %s", len(problems), strings.Join(problems, "\n  "))
	}
	return err
}
