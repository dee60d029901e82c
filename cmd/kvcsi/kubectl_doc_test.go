package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// docs/kubectl.md has the help of both commands, word for word.
func TestKubectlPageHasTheHelp(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/kubectl.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"status", "explain"} {
		code, stdout, stderr := kube(t, "", name, "--help")
		help, theirs, found := strings.Cut(stdout, "\nFlags as of kubectl:")
		if code != 0 || stderr != "" || !found || !strings.Contains(theirs, "--as string") || !strings.Contains(theirs, "-n, --namespace") {
			t.Errorf("%s --help: exit %d\n%s%s", name, code, stdout, stderr)
		}
		if !strings.Contains(string(page), "```text\n"+help+"```\n") {
			t.Errorf("the page does not have the help of %s:\n%s", name, help)
		}
	}
}

// As a plugin, every command calls itself kubectl kvcsi, also in its help.
func TestHelpOfThePlugin(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil, {"--help"}, {"demo", "--help"}, {"dev-cloud", "--help"}, {"explain", "--help"}, {"migrate", "--help"}, {"render", "--help"},
		{"status", "--help"}, {"nothing"}, {"migrate", "-f", "testdata/none"}, {"render", "-f", "../../docs/kubectl/rights.yaml"},
		{"migrate", "-f", "../../docs/kubectl/rights.yaml"},
	} {
		var out, err bytes.Buffer
		run(t.Context(), "kubectl kvcsi", args, nil, &out, &err)
		for line := range strings.Lines(out.String() + err.String()) {
			if strings.Contains(strings.ReplaceAll(line, "kubectl kvcsi", ""), "kvcsi ") {
				t.Errorf("%q says: %s", args, line)
			}
		}
		if !strings.Contains(out.String()+err.String(), "kubectl kvcsi") {
			t.Errorf("%q does not call itself kubectl kvcsi: %s%s", args, &out, &err)
		}
	}
}
