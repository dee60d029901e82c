package main

import (
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
