package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The commands of the documents are run, one after the other, on the manifests that the same document shows, and print what it says
// they print: standard output, then standard error, then the exit code where it is not 0.
func TestMigrationDocs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		document string
		commands int
	}{
		{"migration.md", 2},
		{"migration-agent.md", 3},
		{"migration-azure-provider.md", 1},
		{"values.md", 1},
		{"environment.md", 2},
	} {
		path := filepath.Join("../../docs", test.document)
		text := read(t, path)
		t.Run(test.document, func(t *testing.T) {
			t.Parallel()
			got, commands := runDocument(t, text)
			if commands != test.commands {
				t.Errorf("%d commands, want %d", commands, test.commands)
			}
			compareGolden(t, path, got)
		})
	}
}

// runDocument returns the document with the output that its commands have, and the number of the commands.
func runDocument(t *testing.T, text string) (document string, commands int) {
	t.Helper()
	folder := t.TempDir() // the manifests of one document, so that documents can use the same names
	parts := strings.Split(text, "```")
	for i, part := range parts {
		info, body, _ := strings.Cut(part, "\n")
		language, name, _ := strings.Cut(info, " ")
		switch {
		case i%2 == 0 || language == "yaml" && name == "":
		case language == "yaml":
			if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		case language == "console":
			line, _, _ := strings.Cut(body, "\n")
			parts[i] = info + "\n" + line + "\n" + runLine(t, folder, line)
			commands++
		default:
			t.Errorf("a block of %q is not checked", info)
		}
	}
	return strings.Join(parts, "```"), commands
}

// runLine runs a command line on the files of the folder.
func runLine(t *testing.T, folder, line string) string {
	t.Helper()
	command, found := strings.CutPrefix(line, "$ kvcsi ")
	if !found {
		t.Fatalf("%q is no command of kvcsi", line)
	}
	args := strings.Fields(command)
	for i, arg := range args {
		if arg == "-f" && i+1 < len(args) {
			args[i+1] = filepath.Join(folder, args[i+1])
		}
	}
	var stdout, stderr strings.Builder
	code := run(t.Context(), "kvcsi", args, nil, &stdout, &stderr)
	output := strings.ReplaceAll(stdout.String()+stderr.String(), folder+"/", "")
	if code != exitOK {
		output += fmt.Sprintf("[exit %d]\n", code)
	}
	return output
}
