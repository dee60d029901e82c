package providerclass_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Whatever a class holds, the request is valid or the error is one line, and objects is decoded as the provider decodes it.
func FuzzRequest(f *testing.F) {
	for _, answer := range answers(f) {
		f.Add(answer.Parameters["objects"], answer.Parameters["keyvaultName"], answer.Parameters["cloudName"])
	}
	for _, objects := range []string{
		object("objectVersionHistory: 2147483647"), object("objectVersionHistory: 2.5"), object("objectVersionHistory: 0x10"),
		object("objectAlias: 2027-01-01"), object("objectAlias: !!binary YQ=="), object("objectAlias: ~"), object("filePermission: 0o17"),
		"array: [&a '{objectName: plain, objectType: secret}', *a]", "a: &a [*a]", "<<: {array: []}", "array: [{? [a] : b}]", "array: ['a\n---\nb']",
		strings.Repeat("[", 20000), strings.Repeat("- ", 20000), "array: [" + strings.Repeat("'',", 5000) + "]", "\ufeffarray: []", "array: [\x00]", "{1: 2, array: [3]}",
	} {
		f.Add(objects, "golden", "")
	}
	f.Fuzz(func(t *testing.T, objects, vault, cloud string) {
		request, err := providerclass.Request(inPod(class("objects", objects, "keyvaultName", vault, "cloudName", cloud)), nil, options())
		if err != nil {
			if !errors.Is(err, volume.ErrInvalid) || err.Error() != volume.OneLine(err.Error(), 1<<20) || len(err.Error()) > 5<<10 {
				t.Errorf("%q", err)
			}
		} else {
			checkRequest(t, request)
		}
		if !strings.ContainsAny(objects, "&*!<") && len(objects) < 4096 { // aliases, tags and merges, see TestErrors
			checkDecode(t, objects)
		}
	})
}

// checkRequest checks what other packages rely on.
func checkRequest(t *testing.T, request volume.Request) {
	t.Helper()
	tree := volume.NewTree(nil)
	for _, o := range request.Objects {
		if !volume.ValidName(o.Name) {
			t.Errorf("name %q", o.Name)
		}
		if o.History != nil {
			if o.History.Most < 2 || o.History.Most > volume.MaxEntries {
				t.Errorf("history of %d", o.History.Most)
			}
			o = o.History.Each(0, "")
		}
		for _, output := range o.Outputs {
			if err := tree.Add(output.Path, o); err != nil {
				t.Error(err)
			}
			if output.Mode == 0 || output.Mode > 0o777 {
				t.Errorf("mode %o", output.Mode)
			}
		}
	}
}

// provided is an object as the provider decodes it.
type provided struct {
	Name       string `yaml:"objectName"`
	Type       string `yaml:"objectType"`
	Version    string `yaml:"objectVersion"`
	Alias      string `yaml:"objectAlias"`
	Format     string `yaml:"objectFormat"`
	Encoding   string `yaml:"objectEncoding"`
	Permission string `yaml:"filePermission"`
	History    int32  `yaml:"objectVersionHistory"`
}

func checkDecode(t *testing.T, objects string) {
	t.Helper()
	var list struct {
		Array []string `yaml:"array"`
	}
	wrong := yaml.Unmarshal([]byte(objects), &list)
	got, problem := providerclass.Decode(objects)
	refused := problem != ""
	for _, entry := range got.Entries {
		var o provided
		refused = refused || entry.Mapping || entry.Problem != nil
		if len(list.Array) == 0 || wrong != nil {
			break
		}
		wrong = yaml.Unmarshal([]byte(list.Array[0]), &o)
		list.Array = list.Array[1:]
		want := providerclass.Object(o).Map(strings.TrimSpace)
		if diff := cmp.Diff(want, entry.Object); wrong == nil && !refused && diff != "" {
			t.Errorf("%q (-provider +here):\n%s", objects, diff)
		}
	}
	if refused != (wrong != nil) || !refused && len(list.Array) > 0 {
		t.Errorf("%q: here %q, the provider: %v", objects, problem, wrong)
	}
}
