package providerclass_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What costs much time or memory is refused before it does.
func TestLimits(t *testing.T) {
	t.Parallel()
	const form = "; it must be a mapping with the key array, and in it one text for each object"
	for name, test := range map[string]struct {
		parameters map[string]string
		want       string // the end of the error
	}{
		"all parameters":                {class("note", strings.Repeat("x", 256<<10)), "more than 262144"},
		"nodes":                         {class("objects", strings.Repeat("[", 100_000)), "objects: is too large, at most 4096 entries" + form},
		"depth":                         {class("objects", strings.Repeat("[", 20_000)), "objects: is not YAML" + form},
		"entries":                       {class("objects", "array: ["+strings.Repeat("a,", 4097)+"]"), "objects: array has more than 4096 entries" + form},
		"aliases of a text":             {class("objects", "a: &a "+strings.Repeat("x", 1000)+"\narray: ["+strings.Repeat("*a,", 300)+"]"), "objects: the entries hold more than 262144 bytes" + form},
		"aliases of a mapping":          {class("objects", "a: &a {"+strings.Repeat("? ,", 1000)+"}\narray: ["+strings.Repeat("*a,", 300)+"]"), "objects: the entries hold more than 262144 bytes" + form},
		"an alias that contains itself": {class("objects", "array: &a [*a]"), "objects[0]: is not a text"},
		"problems":                      {class("objects", "array: ["+strings.Repeat("'',", 4096)+"]"), "more"},
		"names":                         {manyNames(), "keyvaultName: is missing"}, // without a hint
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := providerclass.Request(inPod(test.parameters), nil, options())
			if text := errorText(err); !strings.HasSuffix(text, test.want) || len(text) > 5000 {
				t.Errorf("got  %s\nwant …%s", text, test.want)
			}
			if problems, _ := errors.AsType[volume.Problems](err); len(problems) > 1010 {
				t.Errorf("%d problems", len(problems))
			}
		})
	}
}

func manyNames() map[string]string {
	all := class("keyvaultName", "", "keyVaultName", "golden")
	for i := range 200 {
		all[strings.Repeat("x", i)] = ""
	}
	return all
}
