// Package vm tests test/vm/package with an apt of its own, so without a mirror.
package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPackage: a package that the mirror does not have and a download that fails have different exit codes and texts, because make vm
// leaves out the machine of the former, and ends for the latter.
func TestPackage(t *testing.T) {
	t.Parallel()
	const (
		names    = "case $* in *pkgnames*) echo linux-image-6.1.0-50-cloud-amd64 ;; esac"
		download = "case $* in *download*) touch package_1_amd64.deb ;; esac"
	)
	for name, test := range map[string]struct {
		get, cache string // the programs apt-get and apt-cache
		line       string
		code       int
		err        string
	}{
		"all is well":              {download, names, "6.1", 0, ""},
		"no such line":             {download, names, "6.2", 3, "test/vm/package: the mirror has no kernel of line 6.2 for amd64\n"},
		"a name without a package": {download, names + "; [[ $1 != show ]]", "6.1", 3, "test/vm/package: the mirror has no kernel of line 6.1 for amd64\n"},
		"no lists":                 {"[[ $1 != update ]]", names, "6.1", 4, "test/vm/package: the download of the lists of packages failed; try again\n"},
		"no download": {
			"[[ $1 != download ]]", names, "6.1", 4,
			"test/vm/package: the download of linux-image-6.1.0-50-cloud-amd64:amd64 failed; try again\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := packageWith(t, test.get, test.cache)(t.TempDir(), test.line)
			var out, errs strings.Builder
			command.Stdout, command.Stderr = &out, &errs
			_ = command.Run() // the exit code is compared below
			if code := command.ProcessState.ExitCode(); code != test.code || errs.String() != test.err {
				t.Errorf("exit code %d, want %d\n%s\nwant\n%s", code, test.code, errs.String(), test.err)
			}
			if (out.Len() > 0) != (test.code == 0) {
				t.Errorf("it prints %q", out.String())
			}
		})
	}
}

// A cache that was moved, for example with its clone, is used where it is now.
func TestPackageOfAMovedCache(t *testing.T) {
	t.Parallel()
	run := packageWith(t, "case $* in *download*) touch package_1_amd64.deb ;; esac",
		`grep -q "Dir::State \"${APT_CONFIG%/conf}\"" "$APT_CONFIG" || exit 1; echo linux-image-6.1.0-50-cloud-amd64`)
	parent := t.TempDir()
	first, second := filepath.Join(parent, "first"), filepath.Join(parent, "second")
	if out, err := run(first, "6.1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(first, second); err != nil {
		t.Fatal(err)
	}
	if out, err := run(second, "6.1").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// packageWith returns the command test/vm/package for a kernel of amd64, with an apt whose programs are these shell scripts.
func packageWith(t *testing.T, get, cache string) func(folder, line string) *exec.Cmd {
	t.Helper()
	programs := t.TempDir()
	for program, text := range map[string]string{"apt-get": get, "apt-cache": cache} {
		// While a process that another test starts here has the descriptor, until its execve, the script cannot be executed: "text
		// file busy" (https://go.dev/issue/22315).
		syscall.ForkLock.RLock()
		err := os.WriteFile(filepath.Join(programs, program), []byte("#!/usr/bin/env bash\n"+text+"\n"), 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	return func(folder, line string) *exec.Cmd {
		command := exec.CommandContext(t.Context(), "./package", folder, "amd64", "kernel", line)
		command.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
		return command
	}
}
