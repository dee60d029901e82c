package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// testQuickstart runs docs/quickstart.md: all sh blocks in order, in one shell. Text blocks are the expected output.
func testQuickstart(t *testing.T, e *env) {
	if e.driverImage != "localhost/keyvault-csi-driver:dev" || e.testImage != "localhost/keyvault-csi-e2e:dev" {
		t.Skip("the page names the images of make e2e-images, and the cluster has others")
	}
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	script, printed := "set -euo pipefail\n", ""
	for i, block := range strings.Split(string(page), "```") {
		if i%2 == 0 {
			continue // between two blocks
		}
		switch kind, text, _ := strings.Cut(block, "\n"); kind {
		case "sh":
			script += text
		case "text":
			printed += text
		}
	}
	if printed == "" || strings.Count(script, "\n") < 5 {
		t.Fatalf("docs/quickstart.md has no commands any more:\n%s", script)
	}
	command := exec.CommandContext(t.Context(), "bash", "-c", script)
	command.Dir = "../.."
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), strings.TrimSpace(printed)) {
		t.Errorf("the commands do not print\n%s\nbut\n%s", printed, out)
	}
}
