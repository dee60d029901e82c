package manifests_test

import (
	"os"
	"strings"
	"testing"
)

// The end-to-end tests follow docs/quickstart.md word for word, so the README's short form of it may have no words of its
// own.
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
