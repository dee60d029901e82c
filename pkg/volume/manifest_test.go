package volume_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestManifest(t *testing.T) {
	t.Parallel()
	manifest := func(source, path string) volume.Manifest {
		return volume.Manifest{Source: source, Output: volume.Output{Part: volume.PartManifest, Path: path}}
	}
	all := manifest("objects[1]", "a/b.json")
	all.Mode, all.Tags = 0o440, true
	parser := volume.NewParser(volume.Defaults{})
	for yaml, want := range map[string][]volume.Manifest{
		"- manifest: v.json\n- secret: a":                                      {manifest("objects[0]", "v.json")},
		"- manifest: v.json\n- {manifest: a/b.json, mode: '0440', tags: true}": {manifest("objects[0]", "v.json"), all},
		"- secret: a": nil,
	} {
		for range 2 { // the second is the list that the parser has kept
			request, err := parser.Parse(structured(yaml), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, request.Manifests); diff != "" || request.AllVersions != (want != nil) {
				t.Errorf("%s: AllVersions %t (-want +got):\n%s", yaml, request.AllVersions, diff)
			}
			for _, o := range request.Objects {
				if o.Name != "a" {
					t.Errorf("object %+v", o)
				}
			}
		}
	}
}

// A manifest needs no vault.
func TestManifestAlone(t *testing.T) {
	t.Parallel()
	attributes := structured("- manifest: v.json")
	delete(attributes, "vault")
	if request := mustParse(t, attributes, nil); len(request.Objects) != 0 || len(request.Manifests) != 1 {
		t.Errorf("%+v", request)
	}
}

func TestManifestRefused(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"- manifest:":                                            "objects[0].manifest: must be a string, not nothing",
		"- manifest: ''":                                         `objects[0].manifest: the path "" is empty`,
		"- manifest: ../x":                                       `objects[0].manifest: the path "../x" has a component that begins with ".."`,
		"- {manifest: a, tags: {env: prod}}":                     "objects[0].tags: must be true or false",
		"- {manifest: a, mode: 0440}":                            `objects[0].mode: "0440" is a number to YAML, quote it: "0440"`,
		"- {manifest: a, path: b}":                               "objects[0].path: does not go with manifest",
		"- {manifest: a, vault: b}":                              "objects[0].vault: does not go with manifest",
		"- {manifest: a, optional: true}":                        "objects[0].optional: does not go with manifest",
		"- {manifest: a, tag: true}":                             "objects[0].tag: unknown field, did you mean tags?",
		"- {manifest: a, secret: b}":                             "objects[0]: says both secret and manifest",
		"- {manfest: a}":                                         "objects[0].manfest: unknown field, did you mean manifest?; objects[0]: says none of secret, certificate, secrets, key, env, json, properties and manifest",
		"- {secret: a, tags: true}":                              "objects[0].tags: does not go with secret",
		"- manifest: a\n- secret: a":                             `objects[0]: writes "a", which objects[1] writes already`,
		"- manifest: a\n- manifest: a/b":                         `objects[1]: writes "a/b", but objects[0] writes the file "a"`,
		"- manifest: a\n- {secret: b, path: c}\n- manifest: c/d": `objects[2]: writes "c/d", but objects[1] writes the file "c"`,
	} {
		t.Run(yaml, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(structured(yaml), nil, volume.Defaults{})
			checkError(t, err, want)
		})
	}
}
