package envfile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// TestShells compares every text that Parse accepts with what shells make of it.
func TestShells(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{{"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell[0])
			if err != nil {
				t.Skipf("skipped because %s is not installed", shell[0])
			}
			for _, test := range good {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					read(t, append([]string{path}, shell[1:]...), test.text, test.want)
				})
			}
		})
	}
}

func read(t *testing.T, shell []string, text string, want []envfile.Variable) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString(`. "$1"`)
	for _, v := range want {
		if v.Name != "_" { // the shell's own
			fmt.Fprintf(&script, `; printf '%%s\0' "$%s"`, v.Name)
		}
	}
	command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-euc", script.String(), "sh", file)...)
	command.Env = []string{"LC_ALL=C.UTF-8"}
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []envfile.Variable
	values := strings.Split(string(out), "\x00")
	for _, v := range want {
		if v.Name != "_" {
			got = append(got, envfile.Variable{Name: v.Name, Value: values[0]})
			values = values[1:]
		} else {
			got = append(got, v)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-Parse +shell)\n%s", diff)
	}
}
