package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const manifestFolder = "../../pkg/migrate/testdata"

// golden runs a command over each manifest and compares what it prints and how it ends with the files recorded.
func golden(t *testing.T, folder string, pattern string, args ...string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(manifestFolder, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			code := run(t.Context(), "kvcsi", append(args, "-f", name), nil, &stdout, &stderr)
			err := strings.ReplaceAll(stderr.String(), manifestFolder+"/", "") + fmt.Sprintf("exit %d\n", code)
			out := strings.ReplaceAll(stdout.String(), manifestFolder+"/", "")
			for path, got := range map[string]string{".out": out, ".err": err} {
				path = filepath.Join(folder, filepath.Base(name)+path)
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(read(t, path), got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
		})
	}
}

func TestMigrateGolden(t *testing.T) {
	t.Parallel()
	golden(t, filepath.Join(manifestFolder, "golden"), "*.[yj]*", "migrate")
}

// inFolder writes manifests into a folder of their own.
func inFolder(t *testing.T, texts map[string]string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, text := range texts {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func migrateCommand(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	code = run(t.Context(), "kvcsi", append([]string{"migrate"}, args...), strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

const (
	agentManifest = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  initContainers:
  - name: keyvault-agent
    image: registry.example.com/acs-keyvault-agent
    env:
    - {name: USE_MSI, value: "true"}
    - {name: VAULT_BASE_URL, value: "https://myvault.vault.azure.net"}
    - {name: SECRETS_FOLDER, value: /secrets}
    - {name: SECRETS_KEYS, value: db-password}
    volumeMounts:
    - {name: secrets, mountPath: /secrets}
  containers:
  - {name: app, image: example.com/app, volumeMounts: [{name: secrets, mountPath: /secrets}]}
  volumes:
  - name: secrets
    emptyDir: {}
`
	migratedManifest = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: app, image: example.com/app, volumeMounts: [{name: secrets, mountPath: /secrets}]}
  volumes:
  - name: secrets
    csi:
      driver: keyvault-csi.io
      readOnly: true
      volumeAttributes:
        vault: https://myvault.vault.azure.net
        identity: managed
        secrets: db-password
`
	agentDiff = `@@ -2,18 +2,14 @@
 kind: Pod
 metadata: {name: web}
 spec:
-  initContainers:
-  - name: keyvault-agent
-    image: registry.example.com/acs-keyvault-agent
-    env:
-    - {name: USE_MSI, value: "true"}
-    - {name: VAULT_BASE_URL, value: "https://myvault.vault.azure.net"}
-    - {name: SECRETS_FOLDER, value: /secrets}
-    - {name: SECRETS_KEYS, value: db-password}
-    volumeMounts:
-    - {name: secrets, mountPath: /secrets}
   containers:
   - {name: app, image: example.com/app, volumeMounts: [{name: secrets, mountPath: /secrets}]}
   volumes:
   - name: secrets
-    emptyDir: {}
+    csi:
+      driver: keyvault-csi.io
+      readOnly: true
+      volumeAttributes:
+        vault: https://myvault.vault.azure.net
+        identity: managed
+        secrets: db-password
`
	untouched = "# nothing here\nkind:   ConfigMap\napiVersion: v1\n"
)

// A pod and its class in two files find each other; the order of the files is that of the command line.
func TestMigrateFolder(t *testing.T) {
	t.Parallel()
	folder := inFolder(t, map[string]string{
		"a.yaml": agentManifest, "sub/b.yml": untouched, "c.txt": "not: [a manifest", "d.json": `{"kind": "ConfigMap"}`,
	})
	code, out, err := migrateCommand(t, "", "-f", folder)
	if want := migratedManifest + "---\n" + `{"kind": "ConfigMap"}` + "\n---\n" + untouched; code != exitOK || out != want {
		t.Errorf("%d %s\n%s", code, err, cmp.Diff(want, out))
	}
	code, out, _ = migrateCommand(t, agentManifest, "-f", filepath.Join(folder, "sub/b.yml"), "-f", "-")
	if want := untouched + "---\n" + migratedManifest; code != exitOK || out != want {
		t.Errorf("%d\n%s", code, cmp.Diff(want, out))
	}
}

// --diff prints a patch, --write leaves everything else of a file.
func TestMigrateDiffAndWrite(t *testing.T) {
	t.Parallel()
	folder := inFolder(t, map[string]string{"pod.yaml": agentManifest, "other.yaml": untouched})
	pod, other := filepath.Join(folder, "pod.yaml"), filepath.Join(folder, "other.yaml")
	code, out, err := migrateCommand(t, "", "-f", folder, "--diff")
	if code != exitOK || !strings.HasPrefix(out, "--- "+pod+"\n+++ "+pod+"\n@@ ") || strings.Contains(out, "other.yaml") {
		t.Errorf("%d %s %s", code, out, err)
	}
	if _, hunks, _ := strings.Cut(out, "+++ "+pod+"\n"); hunks != agentDiff {
		t.Error(cmp.Diff(agentDiff, hunks))
	}
	if read(t, pod) != agentManifest {
		t.Error("--diff changed the file")
	}
	if code, out, _ = migrateCommand(t, "", "-f", folder, "--write"); code != exitOK || out != "" || read(t, pod) != migratedManifest || read(t, other) != untouched {
		t.Errorf("%d %q %s", code, out, read(t, pod))
	}
	if info, err := os.Stat(pod); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	code, out, err = migrateCommand(t, "", "-f", folder, "--diff")
	if code != exitOK || out != "" || err != "kvcsi migrate: found nothing to migrate in 2 files\n" {
		t.Errorf("%d %q %q", code, out, err)
	}
}

// With --write a file that holds both what can and what cannot be migrated is changed as far as it can be.
func TestMigrateInPart(t *testing.T) {
	t.Parallel()
	second := strings.Replace(strings.Replace(agentManifest, "name: web", "name: other", 1), "value: db-password", "valueFrom: {configMapKeyRef: {name: c, key: k}}", 1)
	folder := inFolder(t, map[string]string{"pods.yaml": agentManifest + "---\n" + second})
	path := filepath.Join(folder, "pods.yaml")
	code, _, err := migrateCommand(t, "", "-f", path, "--write")
	want := path + `:6: note: Pod web: identity managed is the node's own right: the driver's operator must allow it to the namespace (--policy-file)
` + path + `:32: not migrated: Pod other: SECRETS_KEYS of init container "keyvault-agent" comes from the ConfigMap "c", and a volume's attributes are plain text; write the value
kvcsi migrate: 1 file read, 1 workload moved, 1 left: Pod other
`
	if code != exitIncomplete || err != want {
		t.Errorf("%d\n%s", code, cmp.Diff(want, err))
	}
	if got := read(t, path); got != migratedManifest+"---\n"+second {
		t.Error(got)
	}
}

// A class in a file of its own leaves an empty file; one that is alone in a List stays.
func TestMigrateClassAlone(t *testing.T) {
	t.Parallel()
	const (
		class = "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: c}\n" +
			"spec:\n  provider: azure\n  parameters:\n    keyvaultName: myvault\n    tenantID: contoso.example\n    clientID: 11111111-2222-3333-4444-555555555555\n" +
			"    objects: |\n      array:\n      - |\n        objectName: a\n        objectType: key\n"
		pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  volumes:\n  - name: v\n    csi:\n" +
			"      driver: secrets-store.csi.k8s.io\n      readOnly: true\n      volumeAttributes: {secretProviderClass: c}\n"
		migrated = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  volumes:\n  - name: v\n    csi:\n" +
			"      driver: keyvault-csi.io\n      readOnly: true\n      volumeAttributes:\n        vault: https://myvault.vault.azure.net\n" +
			"        identity: workload\n        clientID: 11111111-2222-3333-4444-555555555555\n        tenantID: contoso.example\n        objects: |\n          - key: a\n            path: a\n"
	)
	folder := inFolder(t, map[string]string{"class.yaml": class, "pod.yaml": pod})
	code, out, err := migrateCommand(t, "", "--remove-classes", "-f", folder)
	if code != exitOK || out != migrated || !strings.Contains(err, "class.yaml:1: note: SecretProviderClass c: is gone") {
		t.Errorf("%d %s %s", code, cmp.Diff(migrated, out), err)
	}
	list := "apiVersion: v1\nkind: List\nitems:\n- " + strings.TrimSuffix(strings.ReplaceAll(class, "\n", "\n  "), "  ")
	code, out, err = migrateCommand(t, list+"---\n"+pod, "--remove-classes", "-f", "-")
	if code != exitOK || out != list+"---\n"+migrated || !strings.Contains(err, "because a List must hold something") {
		t.Errorf("%d %s %s", code, out, err)
	}
	code, out, err = migrateCommand(t, "", "-f", folder)
	if code != exitOK || out != class+"---\n"+migrated || !strings.Contains(err, "class.yaml:1: note: SecretProviderClass c: stays, but its pods in these files do not use it any more") {
		t.Errorf("%d %s %s", code, cmp.Diff(class+"---\n"+migrated, out), err)
	}
	// A class that no pod uses is removed as well: its pods were migrated before.
	code, out, err = migrateCommand(t, class+"---\n"+migrated, "--remove-classes", "-f", "-")
	if code != exitOK || strings.TrimPrefix(out, "---\n") != migrated || !strings.Contains(err, "-:1: note: SecretProviderClass c: is gone") {
		t.Errorf("%d %s %s", code, cmp.Diff(migrated, out), err)
	}
	// Values of Helm name the class as well.
	values := filepath.Join(folder, "values.yaml")
	if err := os.WriteFile(values, []byte("controller:\n  secretProviderClass: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, err = migrateCommand(t, "", "--remove-classes", "-f", folder)
	if code != exitIncomplete || !strings.HasPrefix(out, class) || !strings.Contains(err, "class.yaml:1: note: SecretProviderClass c: stays, because line 2 of "+values+" names it\n") {
		t.Errorf("%d %s %s", code, out, err)
	}
}

func TestMigrateContainer(t *testing.T) {
	t.Parallel()
	hidden := strings.NewReplacer("acs-keyvault-agent", "fetch", "keyvault-agent", "fetch").Replace(agentManifest)
	hidden = strings.Replace(hidden, "    - {name: SECRETS_FOLDER, value: /secrets}\n", "", 1)
	if code, out, _ := migrateCommand(t, hidden, "-f", "-"); code != exitOK || out != hidden {
		t.Errorf("%d %s", code, out)
	}
	code, out, err := migrateCommand(t, hidden, "-f", "-", "--container", "fetch")
	if want := `-:6: not migrated: Pod web: init container "fetch" has no SECRETS_FOLDER with an absolute path` + "\nkvcsi migrate: 1 file read, 0 workloads moved, 1 left: Pod web\n"; code != exitIncomplete || out != hidden || err != want {
		t.Errorf("%d %s %s", code, out, err)
	}
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	folder := inFolder(t, map[string]string{"broken.yaml": "a: [b\n", "empty/x.txt": ""})
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "kvcsi migrate: name the manifests with -f FILE, -f FOLDER or -f -\n"},
		{[]string{"pod.yaml"}, exitUsage, "kvcsi migrate: unexpected argument \"pod.yaml\"\n"},
		{[]string{"-f", ""}, exitUsage, "invalid value \"\" for flag -f: names no file\n"},
		{[]string{"--in-place"}, exitUsage, "flag provided but not defined: -in-place\n"},
		{[]string{"-f", "-", "--write"}, exitUsage, "kvcsi migrate: --write changes files and cannot go with -f -\n"},
		{[]string{"-f", folder + "/nowhere"}, exitError, "kvcsi migrate: lstat " + folder + "/nowhere: no such file or directory\n"},
		{[]string{"-f", folder + "/empty"}, exitError, "kvcsi migrate: " + folder + "/empty: holds no file that ends with .yaml, .yml or .json\n"},
		{[]string{"-f", folder}, exitError, "kvcsi migrate: " + folder + "/broken.yaml: yaml: line 1: did not find expected ',' or ']'\n"},
		{[]string{"--help"}, exitOK, "kvcsi migrate reads manifests whose pods use the init container acs-keyvault-agent, or"},
	} {
		code, out, err := migrateCommand(t, "", test.args...)
		if code != test.code || out != "" || !strings.HasPrefix(err, test.want) {
			t.Errorf("%q: %d %q %q", test.args, code, out, err)
		}
	}
}
