package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
)

// Attributes, events and answers of pods are written by tenants. None can move the cursor of a terminal, add a line, or turn its text.
func TestNothingControlsTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b[2J\u009b1A\u202eb\r\n\v\fFAKE-0   secrets   fresh\x7f\x00"
	f := newShop(t)
	f.pods = []object{
		f.pods[0], f.pods[1],
		appPod("shop", "fresh-0", "n1", "Running", secretsVolume()),
		appPod("shop", "broken-0", "n2", "Pending", csiVolume("secrets", "keyvault-csi.io", object{
			evil: "", "vault": evil, "secrets": evil, "objects": evil, "clientID": evil, "identity": evil, "tenantID": "${" + evil + "}",
		})),
	}
	f.pods = append(f.pods, appPod("shop", "odd-0", "n2", "Running", csiVolume("secrets", "keyvault-csi.io", object{
		"vault": "shop", "clientID": "11111111-2222-3333-4444-555555555555", evil: evil, "objects": "- secret: a\n  path: \"a\\u009b\"\n",
	})))
	f.events = []object{failedMount("shop", "broken-0", "secrets", evil, now())}
	f.ports["keyvault-csi/driver-1"] = listens(t, listed("fresh-0", "secrets", object{
		"fetched": before(time.Minute), "reason": "Stale", "message": evil, "certificates": []object{{"file": evil, "notAfter": now()}},
	}))
	f.ports["keyvault-csi/driver-2"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, evil)
	})
	config := f.start(t)
	for command, lines := range map[string]int{"status": 4, "status -o json": -1, "explain broken-0": -1, "explain odd-0": -1, "explain fresh-0": -1} {
		_, stdout, stderr := kube(t, config, strings.Fields(command)...)
		for _, r := range stdout + stderr {
			if r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%s prints %q: %q", command, r, stdout+stderr)
				break
			}
		}
		for line := range strings.Lines(stdout + stderr) {
			if strings.HasPrefix(line, "FAKE") {
				t.Errorf("%s prints a line of a tenant: %q", command, line)
			}
		}
		if got := strings.Count(stdout, "\n"); lines >= 0 && got != lines {
			t.Errorf("%s prints %d lines, want %d: %q", command, got, lines, stdout)
		}
		if strings.HasSuffix(command, "-0") && !strings.HasPrefix(stdout, "Pod shop/") {
			t.Errorf("%s explains nothing: %q", command, stderr)
		}
		if strings.HasSuffix(command, "json") && !json.Valid([]byte(stdout)) {
			t.Errorf("%s prints no JSON: %q", command, stdout)
		}
	}
}
