package manifests_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The end-to-end tests run the commands of docs/quickstart.md, so the README's short form must have the same commands.
func TestReadmeAndQuickstartAgree(t *testing.T) {
	t.Parallel()
	quickstart, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(quickstart)) {
		known[strings.TrimPrefix(line, "$ ")] = true
	}

	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n### On kind, without Azure\n")
	section, _, _ = strings.Cut(section, "\n### ")
	commands := 0
	for i, block := range strings.Split(section, "```") {
		if i%2 == 0 {
			continue // between two blocks
		}
		_, lines, _ := strings.Cut(block, "\n")
		for line := range strings.Lines(lines) {
			commands++
			if !known[line] {
				t.Errorf("not in docs/quickstart.md: %s", line)
			}
		}
	}
	if commands == 0 {
		t.Error("the README has no commands for kind any more")
	}
}

// A file that was renamed must not leave the documents for developers behind.
func TestFilesOfTheDocumentsExist(t *testing.T) {
	t.Parallel()
	file := regexp.MustCompile("`((?:charts|cmd|deploy|docs|internal|pkg|test|tools)/[^` ]*)`")
	for _, document := range []string{"CONTRIBUTING.md", "docs/architecture.md"} {
		text, err := os.ReadFile(filepath.Join("../..", document))
		if err != nil {
			t.Fatal(err)
		}
		names := file.FindAllSubmatch(text, -1)
		if len(names) < 40 {
			t.Errorf("%s names %d files and folders; is the pattern right?", document, len(names))
		}
		for _, name := range names {
			if _, err := os.Stat(filepath.Join("../..", string(name[1]))); err != nil {
				t.Errorf("%s names %s, which does not exist", document, name[1])
			}
		}
	}
}
