package volume_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestTree(t *testing.T) {
	t.Parallel()
	var (
		first       = volume.Object{Kind: volume.KindSecret, Source: "secrets[0]"}
		second      = volume.Object{Kind: volume.KindSecret, Source: "secrets[1]"}
		certificate = volume.Object{Kind: volume.KindPublicCertificate, Source: "certificates[0]"}
		another     = volume.Object{Kind: volume.KindPublicCertificate, Source: "certificates[1]"}
		object      = volume.Object{Kind: volume.KindSecret, Source: "objects[0]"}
		selection   = volume.Object{Kind: volume.KindSecret, Source: "objects[1]"}
	)
	type add struct {
		path string
		by   volume.Object
	}
	for name, row := range map[string]struct {
		adds []add // the last may fail
		want string
	}{
		"apart":                            {[]add{{"a/b", first}, {"a/c", second}, {"ab", object}, {"a-b/c", object}}, ""},
		"one path":                         {[]add{{"a", first}, {"a", second}}, `secrets[1]: writes "a", which secrets[0] writes already`},
		"one path, one source":             {[]add{{"a/b", selection}, {"a/b", selection}}, `objects[1]: writes "a/b" twice`},
		"a file as a folder":               {[]add{{"a", first}, {"a/b/c", object}}, `objects[0]: writes "a/b/c", but secrets[0] writes the file "a"`},
		"a folder as a file":               {[]add{{"a/b/c", first}, {"a/b", object}}, `objects[0]: writes "a/b", which is a folder for secrets[0]`},
		"a folder of the layout":           {[]add{{"certs", object}}, `objects[0]: writes "certs", which is a folder of the attributes secrets and certificates`},
		"in a folder of the layout":        {[]add{{"certs/x", object}}, ""},
		"certificates after secrets":       {[]add{{"certs/a", first}, {"certs/a", certificate}}, ""},
		"certificates after certificates":  {[]add{{"certs/a", certificate}, {"certs/a", another}}, ""},
		"certificates twice after secrets": {[]add{{"certs/a", first}, {"certs/a", certificate}, {"certs/a", another}}, ""},
		"secrets after certificates":       {[]add{{"certs/a", certificate}, {"certs/a", first}}, `secrets[0]: writes "certs/a", which certificates[0] writes already`},
		"objects after certificates":       {[]add{{"certs/a", certificate}, {"certs/a", object}}, `objects[0]: writes "certs/a", which certificates[0] writes already`},
		"certificates after objects":       {[]add{{"certs/a", object}, {"certs/a", certificate}}, `certificates[0]: writes "certs/a", which objects[0] writes already`},
		"certificates and a folder":        {[]add{{"certs/a/b", object}, {"certs/a", certificate}}, `certificates[0]: writes "certs/a", which is a folder for objects[0]`},
		"a name from a vault":              {[]add{{"../../etc/passwd", selection}}, `objects[1]: path "../../etc/passwd" has a component that begins with ".."`},
		"an empty name from a vault":       {[]add{{"", selection}}, `objects[1]: path "" is empty`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := volume.NewTree([]string{"secrets", "certs", "keys", "certs_keys"})
			for i, add := range row.adds {
				err := tree.Add(add.path, add.by)
				switch last := i == len(row.adds)-1; {
				case !last && err != nil:
					t.Fatalf("Add(%q): %v", add.path, err)
				case last && row.want == "" && err != nil, last && row.want != "" && (err == nil || err.Error() != row.want):
					t.Errorf("Add(%q): %v, want %q", add.path, err, row.want)
				case err != nil && !errors.Is(err, volume.ErrInvalid):
					t.Errorf("%v is not ErrInvalid", err)
				}
			}
		})
	}
}

func TestTreeIsAsBeforeAfterAnError(t *testing.T) {
	t.Parallel()
	var tree volume.Tree
	a := volume.Object{Source: "objects[0]"}
	if err := tree.Add("x/y", a); err != nil {
		t.Fatal(err)
	}
	if tree.Add("x/y/z/w", a) == nil {
		t.Fatal("a file became a folder")
	}
	if err := tree.Add("x/z", a); err != nil {
		t.Error(err)
	}
}

func TestConflictsAcrossLists(t *testing.T) {
	t.Parallel()
	refuse(t, map[string]refusal{
		"objects and the layout": {pairs{"objects": "[{secret: secrets}]"}, nil,
			`objects[0]: writes "secrets", which is a folder of the attributes secrets and certificates`},
		"objects and the value of a secret": {pairs{"objects": "[{secret: x, path: secrets/db-password}]"}, nil,
			`objects[0]: writes "secrets/db-password", which secrets[0] writes already`},
		"objects and a certain certificate": {pairs{"secrets": "a::c:k", "objects": "[{secret: x, path: certs_keys/k}]"}, nil,
			`objects[0]: writes "certs_keys/k", which secrets[0] writes already`},
		"objects and a public certificate": {pairs{"certificates": "c", "objects": "[{secret: x, path: certs/c/d}]"}, nil,
			`objects[0]: writes "certs/c/d", but certificates[0] writes the file "certs/c"`},
	})
	// Whether db-password has a certificate is known only after the fetch.
	mustParse(t, valid(pairs{"objects": "[{secret: x, path: certs/db-password}, {secret: certs, path: keys/certs}]"}), nil)
	// Without the lists that have the four folders their names are free.
	mustParse(t, structured("[{secret: secrets}, {secret: certs}]"), nil)
}

func TestTreeDepthIsBounded(t *testing.T) {
	t.Parallel()
	var tree volume.Tree
	if tree.Add(strings.Repeat("d/", 10000)+"f", volume.Object{Source: "objects[0]"}) == nil {
		t.Error("10,000 folders")
	}
}
