// Package release tests the failures of the release scripts that make release-dry-run does not show.
package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNotes: the notes of a release are read outside of the repository, so all of their links name the tag.
func TestNotes(t *testing.T) {
	t.Parallel()
	const changelog = `# Changelog

## [Unreleased]

* Not yet, [c](c.md).

## [1.2.3] - 2026-12-01

### Added

* [a page](docs/a.md), [a part](docs/a.md#part) and [a folder](deploy).
* [this file](#added), [the web](https://example.com/x#y).
[no definition](docs/b.md)

## [1.2.2]

* Before.

[1.2.3]: https://example.com/1.2.3
`
	const blob = "https://github.com/keyvault-csi/keyvault-csi/blob/"
	for name, test := range map[string]struct{ version, notesOf, out, err string }{
		"a version": {
			"v1.2.3", "", "### Added\n\n* [a page](" + blob + "v1.2.3/docs/a.md), [a part](" + blob + "v1.2.3/docs/a.md#part) and [a folder](" + blob + "v1.2.3/deploy).\n" +
				"* [this file](" + blob + "v1.2.3/CHANGELOG.md#added), [the web](https://example.com/x#y).\n" +
				"[no definition](" + blob + "v1.2.3/docs/b.md)\n", "",
		},
		"the last":         {"v1.2.2", "", "* Before.\n", ""},
		"a rehearsal":      {"v0.0.0-rehearsal", "Unreleased", "* Not yet, [c](" + blob + "v0.0.0-rehearsal/c.md).\n", ""},
		"no section":       {"v1.2.4", "", "", "release: CHANGELOG.md has no section \"## [1.2.4]\"\n"},
		"no version":       {"1.2.3", "", "", "release: 1.2.3 is no version: v1.2.3 or v1.2.3-rc.1\n"},
		"the tag of a fix": {"v1.2.3;x", "", "", "release: v1.2.3;x is no version: v1.2.3 or v1.2.3-rc.1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repository := newRepository(t)
			write(t, filepath.Join(repository, "CHANGELOG.md"), changelog)
			out, errs := run(t, repository, []string{"NOTES_OF=" + test.notesOf}, "tools/release/run", "notes", test.version)
			if out != test.out || errs != test.err {
				t.Errorf("it prints\n%s%s\nwant\n%s%s", out, errs, test.out, test.err)
			}
		})
	}
}

// TestRehearsalOfDeletedFiles: the rehearsal copies what git lists, so a file that is missing in the tree must be named.
func TestRehearsalOfDeletedFiles(t *testing.T) {
	t.Parallel()
	repository := newRepository(t)
	for _, name := range []string{"a", "b"} {
		write(t, filepath.Join(repository, name), "")
	}
	git := func(args ...string) {
		t.Helper()
		if _, errs := run(t, repository, nil, "git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...); errs != "" {
			t.Fatal(errs)
		}
	}
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "--no-gpg-sign", "--message=x")
	for _, name := range []string{"a", "b"} {
		if err := os.Remove(filepath.Join(repository, name)); err != nil {
			t.Fatal(err)
		}
	}
	_, errs := run(t, repository, nil, "tools/release/rehearse", "v0.0.0-rehearsal", "out")
	if want := "rehearsal: deleted here, but not in git: a, b; git rm or git restore them\n"; errs != want {
		t.Errorf("it says %q, want %q", errs, want)
	}
}

// newRepository makes a folder with the scripts.
func newRepository(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "tools", "release"), 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"run", "rehearse"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// While a process that another test starts here has the descriptor, until its execve, the script cannot be executed: "text
		// file busy" (https://go.dev/issue/22315).
		syscall.ForkLock.RLock()
		err = os.WriteFile(filepath.Join(folder, "tools", "release", name), text, 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run returns what a program writes. It must fail if it writes an error, and only then.
func run(t *testing.T, folder string, env []string, name string, args ...string) (out, errs string) {
	t.Helper()
	if strings.Contains(name, "/") {
		name = filepath.Join(folder, name)
	}
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir, command.Env = folder, append(os.Environ(), env...)
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err == nil != (stderr.Len() == 0) {
		t.Errorf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return stdout.String(), stderr.String()
}
