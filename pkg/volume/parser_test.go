package volume_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A Parser returns what Parse returns, whatever it has parsed before: each of these follows each other, and itself.
func TestParserIsParse(t *testing.T) {
	t.Parallel()
	const two = "- secret: a\n- secret: b\n  vault: other-vault\n"
	own := structured("- secret: a\n  vault: other-vault\n")
	delete(own, "vault")
	delete(own, "secrets")
	noVault := structured(two)
	delete(noVault, "vault")
	delete(noVault, "secrets")
	all := []pairs{
		structured(two),
		structured(""),
		structured("- secret: a\n- secret: a\n"),
		structured("- certificate: tls\n"),
		valid(pairs{"objects": "- certificate: tls\n", "chainOrder": "reverse"}),
		valid(pairs{"objects": two, "vault": "https://another.vault.azure.net"}),
		valid(pairs{"objects": two, "vault": "https://not-ours.example.com"}),
		own,
		noVault,
		structured("- secret: a\n  mode: 0440\n"),
		structured("- secrets: {prefix: app-}\n  path: app\n"),
		structured("- secret: [\n"),
		structured(strings.Repeat("# a comment\n", 1000) + two),
	}
	parser := volume.NewParser(volume.Defaults{})
	compare := func(attributes pairs) {
		want, wantErr := volume.Parse(attributes, nil, volume.Defaults{})
		got, err := parser.Parse(attributes, nil)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%q: error %v, want %v", attributes["objects"], err, wantErr)
		}
		compareRequests(t, attributes["objects"], want, got)
	}
	for _, first := range all {
		for _, second := range all {
			compare(first)
			compare(second)
		}
	}
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for j := range 60 {
				compare(structured(fmt.Sprintf("- secret: s%d\n", (i*j)%50)))
			}
		})
	}
	callers.Wait()
}

// compareRequests compares functions by what they return.
func compareRequests(t *testing.T, objects string, want, got volume.Request) {
	t.Helper()
	each := cmp.Transformer("Each", func(f func(string) volume.Object) volume.Object { return f("app-1") })
	reveal := cmp.Comparer(func(a, b volume.Secret) bool { return bytes.Equal(a.Reveal(), b.Reveal()) })
	if diff := cmp.Diff(want, got, each, reveal); diff != "" {
		t.Errorf("%q (-Parse +Parser):\n%s", objects, diff)
	}
}
