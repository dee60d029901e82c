package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const corpusFolder = manifestFolder + "/corpus"

// corpusCase is one line of expect.yaml, which was written before the code, after what the provider does.
type corpusCase struct {
	Args    []string // besides -f
	Exit    int
	Changed bool
	Says    []string // in standard error
	Out     []string // in standard output
	Not     []string // in neither
	Why     string
}

// Each manifest of the corpus is migrated or refused as expect.yaml says. What changes and what is told is compared with a golden file. The
// result is accepted by kvcsi render, and migrating it again changes nothing.
func TestMigrateCorpus(t *testing.T) {
	t.Parallel()
	var cases map[string]corpusCase
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(corpusFolder, "expect.yaml"))), &cases); err != nil || len(cases) < 60 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for name, test := range cases {
		t.Run(strings.TrimSuffix(name, "/"), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(corpusFolder, name)
			local := strings.NewReplacer(corpusFolder+"/", "")
			code, out, err := migrateCommand(t, "", append([]string{"-f", path}, test.Args...)...)
			_, diff, _ := migrateCommand(t, "", append([]string{"--diff", "-f", path}, test.Args...)...)
			out, err, diff = local.Replace(out), local.Replace(err), local.Replace(diff)
			test.check(t, code, out, err, diff)
			compareGolden(t, filepath.Join(corpusFolder, "golden", strings.TrimSuffix(name, "/")+".txt"), fmt.Sprintf("%s%sexit %d\n", diff, err, code))
			if test.Changed {
				checkAgain(t, out, code)
			}
		})
	}
}

func (test corpusCase) check(t *testing.T, code int, out, err, diff string) {
	t.Helper()
	if code != test.Exit || (diff != "") != test.Changed {
		t.Errorf("exit %d, changed %v; want exit %d, changed %v (%s)\n%s", code, diff != "", test.Exit, test.Changed, test.Why, err)
	}
	for _, text := range test.Says {
		if !strings.Contains(err, text) {
			t.Errorf("standard error does not say %q (%s):\n%s", text, test.Why, err)
		}
	}
	for _, text := range test.Out {
		if !strings.Contains(out, text) {
			t.Errorf("the output has no %q (%s):\n%s\n%s", text, test.Why, diff, err)
		}
	}
	for _, text := range test.Not {
		if strings.Contains(out, text) || strings.Contains(err, text) {
			t.Errorf("there is a %q (%s):\n%s\n%s", text, test.Why, diff, err)
		}
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, path), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// checkAgain gives the output of a migration to kvcsi render and to kvcsi migrate.
func checkAgain(t *testing.T, out string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "migrated.yaml")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	again, same, err := migrateCommand(t, "", "-f", path)
	if same != out || code == exitOK && again != exitOK {
		t.Errorf("migrated again: exit %d, %s\n%s", again, cmp.Diff(out, same), err)
	}
	for i, problems := range renderProblems(t, path, out) {
		if !slices.Contains(problems, "") {
			t.Errorf("kvcsi render refuses volume %d in every cloud: %q", i, problems)
		}
	}
}

// renderProblems returns what is wrong with each volume, in each of the clouds.
func renderProblems(t *testing.T, path, out string) (problems map[int][]string) {
	t.Helper()
	problems = map[int][]string{}
	for _, suffix := range []string{"vault.azure.net", "vault.usgovcloudapi.net", "vault.azure.cn"} {
		volumes, err := migrate.Volumes([]migrate.File{{Name: path, Data: []byte(out)}}, volume.Defaults{VaultSuffix: suffix})
		if err != nil && !strings.Contains(err.Error(), "template of Helm") {
			t.Fatal(err)
		}
		for i, v := range volumes {
			var text strings.Builder
			for _, problem := range v.Problems {
				text.WriteString(problem.Text + "\n")
			}
			problems[i] = append(problems[i], text.String())
		}
	}
	return problems
}
