package volume_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A shell keeps the value of every name that an entry can have: those that the manual of bash describes, those that a shell
// sets by itself, and those that change how it works.
func TestShellsKeepVariables(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{{"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell[0]); err != nil {
				t.Skipf("%s is not installed", shell[0])
			}
			folder := t.TempDir()
			own, err := exec.CommandContext(t.Context(), shell[0], append(shell[1:len(shell):len(shell)], "-c", "cd /; set")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			names := strings.Fields("PATH IFS ENV HOME CDPATH PS1 PS2 PS4 OPTARG OPTERR REPLY TMOUT LANG LC_ALL FUNCNEST MAPFILE COPROC HISTSIZE " +
				"BASH_ENV BASH_COMPAT BASH_XTRACEFD POSIXLY_CORRECT RANDOM SECONDS LINENO OPTIND UID EUID PPID SHELLOPTS BASHOPTS SHLVL _ PWD OLDPWD MAIL TERM")
			for _, assignment := range regexp.MustCompile(`(?m)^([A-Za-z_][A-Za-z0-9_]*)=`).FindAllStringSubmatch(string(own), -1) {
				names = append(names, assignment[1])
			}
			for _, name := range names {
				if volume.FormatEnv.NameProblem(name) != "" {
					continue
				}
				path := filepath.Join(folder, name)
				if err := os.WriteFile(path, fmt.Appendf(nil, "%s='x y'\nAFTER='1'\n", name), 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := exec.CommandContext(t.Context(), shell[0],
					append(shell[1:len(shell):len(shell)], "-c", `set -a; . "$0"; exec /usr/bin/env -0`, path)...).Output()
				if err != nil || !strings.Contains("\x00"+string(out), "\x00"+name+"=x y\x00") || !strings.Contains("\x00"+string(out), "\x00AFTER=1\x00") {
					t.Errorf("%s does not keep %s, or stops behind it: %v", shell, name, err)
				}
			}
		})
	}
}
