package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// An error of the output does not hide the report: with --write some files are changed already, and the next run finds nothing in them.
func TestReportInSpiteOfAnError(t *testing.T) {
	t.Parallel()
	var report strings.Builder
	code := run(t.Context(), "kvcsi", []string{"migrate", "-f", "-"}, strings.NewReader(agentManifest), fullDisk{}, &report)
	if got := report.String(); code != exitError || !strings.Contains(got, "-:6: note: Pod web: identity managed") || !strings.HasSuffix(got, "kvcsi migrate: no space left on device\n") {
		t.Errorf("exit %d\n%s", code, got)
	}
}

// The report tells what was read, what became of each workload, and why one stays. A template of Helm does not stop a folder.
func TestMigrateReport(t *testing.T) {
	t.Parallel()
	folder := inFolder(t, map[string]string{
		"a.yaml": agentManifest,
		"b.yaml": strings.NewReplacer("name: web", "name: other", "value: db-password", "valueFrom: {configMapKeyRef: {name: c, key: k}}").Replace(agentManifest),
		"c.yaml": "{{- if .Values.vault }}\nkind: Secret\n{{- end }}\n",
	})
	code, _, text := migrateCommand(t, "", "-f", folder, "--report", "json")
	var report jsonReport
	if err := json.Unmarshal([]byte(text), &report); err != nil || code != exitIncomplete {
		t.Fatalf("exit %d, %v: %s", code, err, text)
	}
	const why = `SECRETS_KEYS of init container "keyvault-agent" comes from the ConfigMap "c", and a volume's attributes are plain text; write the value`
	const template = "is a template of Helm that is no YAML before it is rendered; give what it renders: " +
		"helm template . | kvcsi migrate -f -, or what is in the cluster: kubectl get -o yaml ... | kvcsi migrate -f -"
	in := func(name string) string { return filepath.Join(folder, name) }
	want := jsonReport{
		Files: 3,
		Moved: []jsonWorkload{{File: in("a.yaml"), Line: 1, Object: "Pod web"}},
		Left: []jsonWorkload{
			{File: in("c.yaml"), Line: 1, Object: "file " + in("c.yaml"), Why: []string{template}},
			{File: in("b.yaml"), Line: 1, Object: "Pod other", Why: []string{why}},
		},
		Findings: []jsonFinding{
			{in("a.yaml"), 6, "Pod web", "note", "identity managed is the node's own right: the driver's operator must allow it to the namespace (--policy-file)"},
			{in("b.yaml"), 12, "Pod other", "not migrated", why},
			{in("c.yaml"), 1, "file " + in("c.yaml"), "not migrated", template},
		},
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, _, text = migrateCommand(t, "", "-f", folder, "-f", in("a.yaml")) // a file that is named twice is read once
	if summary := "kvcsi migrate: 3 files read, 1 workload moved, 2 left: file " + in("c.yaml") + ", Pod other\n"; !strings.HasSuffix(text, summary) {
		t.Errorf("%q does not end with %q", text, summary)
	}
	if code, _, text := migrateCommand(t, "", "-f", folder, "--report", "xml"); code != exitUsage || text != "kvcsi migrate: --report \"xml\" is neither text nor json\n" {
		t.Errorf("exit %d, %q", code, text)
	}
}

// kvcsi render accepts placeholders for ids and names and shows them; it refuses templates that are no YAML.
func TestRenderPlaceholders(t *testing.T) {
	t.Parallel()
	const manifest = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: app, image: example.com/app}]
  volumes:
  - name: secrets
    csi:
      driver: keyvault-csi.io
      readOnly: true
      volumeAttributes:
        vault: https://kv-${ENVIRONMENT}.vault.azure.net
        clientID: {{ .Values.identity.clientID }}
        secrets: db-{{ .Values.environment }}
`
	folder := inFolder(t, map[string]string{"pod.yaml": manifest, "template.yaml": "{{- if .Values.x }}\n" + manifest + "{{- end }}\n"})
	pod, template := filepath.Join(folder, "pod.yaml"), filepath.Join(folder, "template.yaml")
	var stdout, stderr strings.Builder
	code := run(t.Context(), "kvcsi", []string{"render", "-f", pod}, nil, &stdout, &stderr)
	for _, text := range []string{"identity  workload, client {{ .Values.identity.clientID }}\n", "secrets/db-{{ .Values.environment }}", "kv-${ENVIRONMENT}.vault.azure.net secret"} {
		if code != exitOK || !strings.Contains(stdout.String(), text) {
			t.Errorf("exit %d, no %q in:\n%s%s", code, text, stdout.String(), stderr.String())
		}
	}
	stderr.Reset()
	code = run(t.Context(), "kvcsi", []string{"render", "-f", template}, nil, &stdout, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), template+": is a template of Helm") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}
