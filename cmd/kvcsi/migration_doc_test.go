package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const migrationDoc = "../../docs/migration.md"

// The commands of docs/migration.md are run, one after the other, on the manifests that it shows, and print what it says
// they print: standard output, then standard error, then the exit code where it is not 0.
func TestMigrationDoc(t *testing.T) {
	text := read(t, migrationDoc)
	var doc strings.Builder
	folder := t.TempDir()
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
	commands := 0
	for i, part := range strings.Split(text, "```") {
		if i > 0 {
			doc.WriteString("```")
		}
		info, body, _ := strings.Cut(part, "\n")
		language, name, _ := strings.Cut(info, " ")
		switch {
		case i%2 == 0 || language == "yaml" && name == "":
		case language == "yaml":
			if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		case language == "console":
			line, _, _ := strings.Cut(body, "\n")
			command, found := strings.CutPrefix(line, "$ kvcsi ")
			if !found {
				t.Fatalf("%q is no command of kvcsi", line)
			}
			commands++
			var stdout, stderr strings.Builder
			code := run(t.Context(), strings.Fields(command), nil, &stdout, &stderr)
			part = info + "\n" + line + "\n" + stdout.String() + stderr.String()
			if code != exitOK {
				part += fmt.Sprintf("[exit %d]\n", code)
			}
		default:
			t.Errorf("a block of %q is not checked", info)
		}
		doc.WriteString(part)
	}
	if commands < 5 {
		t.Errorf("only %d commands", commands)
	}
	t.Chdir(home)
	if *update {
		if err := os.WriteFile(migrationDoc, []byte(doc.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, migrationDoc), doc.String()); diff != "" {
		t.Errorf("docs/migration.md (-want +got):\n%s", diff)
	}
}
