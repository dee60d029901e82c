package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestRenderGolden(t *testing.T) {
	t.Parallel()
	golden(t, filepath.Join(manifestFolder, "golden"), "render/*.yaml", "render")
}

func renderCommand(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	code = run(t.Context(), "kvcsi", append([]string{"render"}, args...), strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// What migrate writes, render accepts.
func TestRenderMigrated(t *testing.T) {
	t.Parallel()
	code, out, err := renderCommand(t, migratedManifest, "-f", "-")
	want := `-:8: Pod web, volume secrets
  identity  managed
  0755  secrets/
  0755  certs/
  0755  keys/
  0755  certs_keys/
  0644  secrets/db-password  value of myvault.vault.azure.net secret db-password
  0644  keys/db-password     key of myvault.vault.azure.net secret db-password, if it backs a certificate
  0644  certs/db-password    chain of myvault.vault.azure.net secret db-password, if it backs a certificate
`
	if code != exitOK || out != want || err != "" {
		t.Errorf("%d\n%s%s", code, out, err)
	}
}

// The driver's own settings count: its cloud, and the identity of pods that name none.
func TestRenderFlags(t *testing.T) {
	t.Parallel()
	manifest := strings.Replace(strings.Replace(migratedManifest, "        identity: managed\n", "", 1), "azure.net", "usgovcloudapi.net", 1)
	code, _, err := renderCommand(t, manifest, "-f", "-")
	if code != exitError || strings.Count(err, "\n") != 2 || !strings.Contains(err, "-:13: Pod web, volume secrets: vault: ") || !strings.Contains(err, "-:8: Pod web, volume secrets: identity: ") {
		t.Errorf("%d %s", code, err)
	}
	code, out, err := renderCommand(t, manifest, "-f", "-", "--cloud", "AzureUSGovernmentCloud", "--default-identity", "cluster")
	if code != exitOK || err != "" || !strings.Contains(out, "identity  cluster\n") {
		t.Errorf("%d %s%s", code, out, err)
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "kvcsi render: name the manifests with -f FILE, -f FOLDER or -f -\n"},
		{[]string{"pod.yaml"}, exitUsage, "kvcsi render: unexpected argument \"pod.yaml\"\n"},
		{[]string{"--what"}, exitUsage, "flag provided but not defined: -what\n"},
		{[]string{"-f", "-", "--reveal"}, exitUsage, "kvcsi render: --reveal goes with --fetch\n"},
		{[]string{"-f", "-", "--cloud", "Sky"}, exitUsage, "kvcsi render: unknown cloud \"Sky\"; known are AzurePublicCloud, "},
		{[]string{"-f", "-", "--default-identity", "workload"}, exitUsage, "kvcsi render: --default-identity \"workload\" is neither managed nor cluster\n"},
		{[]string{"-f", "/nowhere/at/all"}, exitError, "kvcsi render: lstat /nowhere/at/all: no such file or directory\n"},
		{[]string{"-f", "-"}, exitError, "kvcsi render: -: yaml: line 1: did not find expected ',' or ']'\n"},
		{[]string{"--help"}, exitOK, "kvcsi render checks every volume of this driver in manifests"},
	} {
		code, out, err := renderCommand(t, "a: [b\n", test.args...)
		if code != test.code || out != "" || !strings.HasPrefix(err, test.want) {
			t.Errorf("%q: %d %q %q", test.args, code, out, err)
		}
	}
	if code, out, err := renderCommand(t, untouched, "-f", "-"); code != exitOK || out != "" || err != "kvcsi render: found no volume of the driver keyvault-csi.io\n" {
		t.Errorf("%d %q %q", code, out, err)
	}
}
