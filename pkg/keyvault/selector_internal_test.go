package keyvault

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What stands for a selection among what is known of a vault is small, however long its tags are, and that of no other.
func TestSelector(t *testing.T) {
	t.Parallel()
	tags := map[string]string{}
	for i := range 15 {
		tags[fmt.Sprint(i)] = strings.Repeat("\U0010ffff", 256)
	}
	known := map[string]bool{}
	for _, s := range []volume.Selection{
		{}, {Prefix: "a"}, {Prefix: "b"}, {Tags: map[string]string{"a": ""}}, {Tags: map[string]string{"a": "b"}},
		{Tags: map[string]string{`a" "b`: "c"}}, {Tags: map[string]string{"a": `b" "c`}}, {Tags: tags},
	} {
		stands := selector(&s)
		if len(stands) > 64 || known[stands] {
			t.Errorf("prefix %q and %d tags: %d bytes; known already: %t", s.Prefix, len(s.Tags), len(stands), known[stands])
		}
		known[stands] = true
	}
	if selector(&volume.Selection{Prefix: "Web"}) != selector(&volume.Selection{Prefix: "wEB"}) {
		t.Error("a prefix has no case")
	}
}
