package migrate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// manifests are the golden inputs. The tests of kvcsi read the same folder and compare the results.
func manifests(t testing.TB) (files []migrate.File) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.[yj]*")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d manifests: %v", len(names), err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, migrate.File{Name: name, Data: data})
	}
	return files
}

func one(t testing.TB, text string) (string, []migrate.Finding) {
	t.Helper()
	result, err := migrate.Migrate([]migrate.File{{Name: "x", Data: []byte(text)}}, migrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return string(result.Files[0].Data), result.Findings
}

// A second migration changes nothing in what the first has migrated, and every volume that it wrote is valid to the driver.
func TestTwice(t *testing.T) {
	t.Parallel()
	for _, file := range manifests(t) {
		t.Run(filepath.Base(file.Name), func(t *testing.T) {
			t.Parallel()
			first, err := migrate.Migrate([]migrate.File{file}, migrate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			second, err := migrate.Migrate(first.Files, migrate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if second.Migrated != 0 || !bytes.Equal(second.Files[0].Data, first.Files[0].Data) {
				t.Errorf("the second time %d objects changed", second.Migrated)
			}
			for _, suffix := range []string{"", "vault.azure.cn", "vault.usgovcloudapi.net"} {
				volumes, err := migrate.Volumes(first.Files, volume.Defaults{VaultSuffix: suffix})
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range volumes {
					for _, problem := range v.Problems {
						if !strings.Contains(problem.Text, "is not a vault of this cloud") {
							t.Errorf("line %d: %s: %s", v.Line, v.Object, problem.Text)
						}
					}
				}
			}
		})
	}
}

// The lines of a result end all with CRLF, or none does.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	for _, file := range manifests(t) {
		result, err := migrate.Migrate([]migrate.File{file}, migrate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		crlf := bytes.Count(result.Files[0].Data, []byte("\r\n"))
		if lines := bytes.Count(result.Files[0].Data, []byte("\n")); crlf != 0 && crlf != lines {
			t.Errorf("%s: %d of %d lines end with CRLF", file.Name, crlf, lines)
		}
	}
}

const agentPod = `apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  initContainers:
  - name: fetch
    image: IMAGE
    env:
    - {name: USE_MSI, value: "true"}
    - {name: VAULT_BASE_URL, value: "https://myvault.vault.azure.net"}
    - {name: SECRETS_FOLDER, value: /secrets}
    volumeMounts:
    - {name: secrets, mountPath: /secrets}
  containers:
  - {name: app, image: example.com/app}
  volumes:
  - name: secrets
    emptyDir: {}
`

// The agent is recognised by its image, by its variables, by its command with one variable, or by name.
func TestFindsTheAgent(t *testing.T) {
	t.Parallel()
	noVariables := strings.NewReplacer("VAULT_BASE_URL", "OTHER_URL", "SECRETS_FOLDER", "OTHER_FOLDER", "USE_MSI", "OTHER")
	for name, row := range map[string]struct {
		text  string
		found bool
	}{
		"variables":         {agentPod, true},
		"image":             {noVariables.Replace(strings.Replace(agentPod, "IMAGE", "x.azurecr.io/a/acs-keyvault-agent:v1", 1)), true},
		"image of a mirror": {noVariables.Replace(strings.Replace(agentPod, "IMAGE", "mirror/azure-keyvault-agent", 1)), true},
		"command":           {strings.Replace(strings.Replace(agentPod, "VAULT_BASE_URL", "X", 1), "image: IMAGE", "command: [python3, ./main.py]", 1), true},
		"another's command": {noVariables.Replace(strings.Replace(agentPod, "image: IMAGE", "command: [python3, ./main.py]", 1)), false},
		"nothing":           {noVariables.Replace(agentPod), false},
		"another's image":   {noVariables.Replace(strings.Replace(agentPod, "IMAGE", "keyvault-agents-of-change/x", 1)), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, findings := one(t, row.text)
			if got := len(findings) > 0; got != row.found {
				t.Errorf("found: %v, %v", got, findings)
			}
			if !row.found && out != row.text {
				t.Error("changed")
			}
		})
	}
	hidden := noVariables.Replace(strings.Replace(agentPod, "name: fetch", "name: other", 1))
	for container, want := range map[string]string{"fetch": `no pod has an init container "fetch"`, "other": "has no VAULT_BASE_URL"} {
		result, err := migrate.Migrate([]migrate.File{{Name: "x", Data: []byte(hidden)}}, migrate.Options{Container: container})
		if err != nil || len(result.Findings) == 0 || !strings.Contains(result.Findings[0].Text+result.Findings[len(result.Findings)-1].Text, want) {
			t.Errorf("%s: %v, %v", container, err, result.Findings)
		}
	}
}

// What cannot be edited safely is not changed, with a reason.
func TestLeavesAlone(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ old, with, want string }{
		"key twice":         {"  containers:", "  volumes: []\n  containers:", "the key \"volumes\" is there twice"},
		"tag":               {"emptyDir: {}", "emptyDir: !!map {}", "it has an anchor, an alias or a tag"},
		"comment in flow":   {"  volumes:\n  - name: secrets\n    emptyDir: {}", "  volumes: [{name: secrets, emptyDir: { #\n }}]", "there may be a comment between brackets"},
		"subPathExpr":       {"image: example.com/app", "volumeMounts: [{name: secrets, mountPath: /s, subPathExpr: $(X)}]", "by subPathExpr"},
		"no such volume":    {"- name: secrets\n    emptyDir: {}", "- name: other\n    emptyDir: {}", `the volume "secrets" of init container "fetch" is not among the pod's volumes`},
		"name of a star":    {"value: /secrets}", "value: /secrets}\n    - {name: SECRETS_KEYS, value: \" * \"}", `asks for a secret of the name "*"`},
		"relative folder":   {"value: /secrets}", "value: secrets}", "has no SECRETS_FOLDER with an absolute path"},
		"unknown reference": {"https://myvault.", "https://$(NAME).", "comes from the variable NAME, which is not set before it"},
		"document marker":   {"    emptyDir: {}", "    emptyDir: &x {}", "it has an anchor, an alias or a tag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(agentPod, row.old, row.with, 1)
			out, findings := one(t, text)
			if out != text {
				t.Errorf("changed:\n%s", out)
			}
			if len(findings) == 0 || findings[0].Level != migrate.NotMigrated || !strings.Contains(findings[0].Text, row.want) {
				t.Errorf("%v", findings)
			}
		})
	}
}

// The ways to write an emptyDir, and other volumes beside it.
func TestForms(t *testing.T) {
	t.Parallel()
	const (
		attributes = `vault: https://myvault.vault.azure.net`
		end        = "\n        identity: managed\n        secrets: '*'\n"
	)
	for name, row := range map[string]struct{ old, with, want string }{
		"null":               {"    emptyDir: {}", "    emptyDir: ~ # c", "    csi: # c\n      driver: keyvault-csi.io\n"},
		"nothing":            {"    emptyDir: {}", "    emptyDir:", "    csi:\n      driver: keyvault-csi.io\n"},
		"no line end":        {"    emptyDir: {}\n", "    emptyDir:", "    csi:\n      driver: keyvault-csi.io\n"},
		"block, no line end": {"    emptyDir: {}\n", "    emptyDir:\n      medium: Memory", "    csi:\n      driver: keyvault-csi.io\n"},
		"quoted":             {"    emptyDir: {}", "    \"emptyDir\" : {}", "    csi :\n      driver: keyvault-csi.io\n"},
		"on the next line":   {"    emptyDir: {}", "    emptyDir:\n      {medium:\n Memory} # c", "    csi: # c\n      driver: keyvault-csi.io\n"},
		"flow":               {"  - name: secrets\n    emptyDir: {}", "  - { name: secrets, emptyDir: {} }", "  - { name: secrets, csi: {driver: keyvault-csi.io, readOnly: true, "},
		"flow over lines": {
			"  - name: secrets\n    emptyDir: {}", "  - {\n    \"emptyDir\": {\n },\n name: secrets\n }",
			"  - {\n    \"csi\": {\"driver\": \"keyvault-csi.io\", \"readOnly\": true, ",
		},
		"subPath of the agent": {
			"  containers:\n  - {name: app, image: example.com/app}",
			"  containers:\n  - {name: app, volumeMounts: [{subPath: in/secrets, name: secrets, mountPath: /a}, {name: secrets, mountPath: /b}]}",
			"[{subPath: secrets, name: secrets, mountPath: /a}, {name: secrets, mountPath: /b/in}]",
		},
		"list in a list": {"  - name: fetch", "  -\n    name: fetch", ""},
		"merged in":      {"  containers:", "  <<: {}\n  containers:", "  <<: {}\n  containers:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(agentPod, row.old, row.with, 1)
			if name == "subPath of the agent" {
				text = strings.Replace(text, "mountPath: /secrets}", "mountPath: /secrets, subPath: in}", 1)
			}
			out, findings := one(t, text)
			if row.want == "" {
				if out != text || len(findings) != 1 || findings[0].Level != migrate.NotMigrated {
					t.Errorf("%v\n%s", findings, out)
				}
				return
			}
			if !strings.Contains(out, row.want) || strings.Contains(out, "emptyDir") || strings.Contains(out, "fetch") {
				t.Errorf("%v\n%s", findings, out)
			}
			if strings.Contains(row.want, "csi:\n") && !strings.HasSuffix(strings.TrimRight(out, "\n")+"\n", attributes+end) {
				t.Errorf("%q", out)
			}
		})
	}
}

// A byte order mark does not move the first line, which in JSON may be the only one.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	const (
		before = "\ufeff" + `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "é"}, "spec": {"initContainers": [{"name": "k", "image": "keyvault-agent", "env": [` +
			`{"name": "USE_MSI", "value": "true"}, {"name": "VAULT_BASE_URL", "value": "https://myvault.vault.azure.net"}, {"name": "SECRETS_FOLDER", "value": "/s"}], ` +
			`"volumeMounts": [{"name": "s", "mountPath": "/s"}]}], "volumes": [{"name": "s", "emptyDir": {}}]}}`
		after = "\ufeff" + `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "é"}, "spec": {"volumes": [{"name": "s", ` +
			`"csi": {"driver": "keyvault-csi.io", "readOnly": true, "volumeAttributes": {"vault": "https://myvault.vault.azure.net", "identity": "managed", "secrets": "*"}}}]}}`
	)
	if out, findings := one(t, before); out != after {
		t.Errorf("%v\n%s", findings, out)
	}
}

// Two definitions of a pod that share text by an anchor are not changed, also with a merge key.
func TestShared(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"spec":  "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec: &spec\n" + indented() + "- apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n  spec: *spec\n",
		"merge": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nx: &spec\n" + indented() + "spec:\n  <<: *spec\n",
	} {
		out, findings := one(t, text)
		if out != text || len(findings) == 0 {
			t.Errorf("%s: %v\n%s", name, findings, out)
		}
		for _, finding := range findings {
			if finding.Level != migrate.NotMigrated || !strings.Contains(finding.Text, "in a way that kvcsi does not edit") {
				t.Errorf("%s: %v", name, finding)
			}
		}
	}
}

func indented() string {
	_, spec, _ := strings.Cut(agentPod, "spec:\n")
	return strings.ReplaceAll("  "+strings.TrimSuffix(spec, "\n"), "\n", "\n  ") + "\n"
}

// The text of an agent's list becomes the attribute that means the same.
func TestSecretsKeys(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":                     "secrets: \"\"",
		"SECRETS_KEYS missing": "secrets: '*'",
		"a":                    "secrets: a",
		" a ;; b:: ":           "", // an empty file name: refused
		"a;b;":                 "secrets: a;b",
		"a::b.pem:c.pem:d":     "secrets: a::b.pem:c.pem:d",
	} {
		text := strings.Replace(agentPod, "    volumeMounts:", "    - {name: SECRETS_KEYS, value: "+`"`+value+`"`+"}\n    volumeMounts:", 1)
		if value == "SECRETS_KEYS missing" {
			text = agentPod
		}
		out, findings := one(t, text)
		if want == "" && out == text && findings[0].Level == migrate.NotMigrated {
			continue
		}
		if want == "" || !strings.Contains(out, "        "+want+"\n") {
			t.Errorf("%q: %s%v", value, out, findings)
		}
	}
}

// No finding and no panic message of the package shows a secret of a manifest.
func TestFindingsHoldNoSecret(t *testing.T) {
	t.Parallel()
	for _, file := range manifests(t) {
		result, err := migrate.Migrate([]migrate.File{file}, migrate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range result.Findings {
			if text := finding.String(); strings.Contains(text, "in-the-manifest") || strings.Contains(text, "c2VjcmV0") || strings.ContainsAny(text, "\n\r") {
				t.Errorf("%q", text)
			}
		}
	}
}

// FuzzMigrate: no input makes it panic, a file without an agent is not changed, and Volumes can read the result.
func FuzzMigrate(f *testing.F) {
	for _, file := range manifests(f) {
		f.Add(file.Data)
	}
	f.Add([]byte(agentPod))
	f.Add([]byte("{{- if .Values.vault }}\n" + agentPod + "{{- end }}\n"))
	f.Add([]byte(strings.Replace(agentPod, "https://myvault.", "https://${VAULT}-{{ .Values.vault }}.", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			t.Skip("long inputs find nothing new and take long")
		}
		file := migrate.File{Name: "x", Data: data}
		result, err := migrate.Migrate([]migrate.File{file}, migrate.Options{})
		if err != nil {
			return
		}
		if result.Migrated == 0 && !bytes.Contains(data, []byte("SecretProviderClass")) && !bytes.Equal(result.Files[0].Data, data) {
			t.Fatal("nothing was migrated, and the file changed")
		}
		before, after := documents(t, data), documents(t, result.Files[0].Data)
		for _, document := range before {
			if !bytes.Contains(document, []byte("nitContainers")) && !bytes.Contains(document, []byte("secrets-store")) && !holds(after, document) {
				if !bytes.Contains(data, []byte("&")) {
					t.Fatalf("a document without an init container changed: %q", document)
				}
			}
		}
		if _, err := migrate.Volumes(result.Files, volume.Defaults{}); err != nil && !strings.Contains(err.Error(), "is a template of Helm") {
			t.Fatal(err)
		}
	})
}

// documents returns the trees of all documents, encoded again.
func documents(t testing.TB, data []byte) (all [][]byte) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		if decoder.Decode(&node) != nil {
			return all
		}
		if text, err := yaml.Marshal(&node); err == nil {
			all = append(all, text)
		}
	}
}

func holds(all [][]byte, one []byte) bool {
	for _, other := range all {
		if bytes.Equal(other, one) {
			return true
		}
	}
	return false
}
