package volume_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const vaultURL = "https://myvault.vault.azure.net"

func TestObjects(t *testing.T) {
	t.Parallel()
	output := func(part volume.Part, path string) volume.Output { return volume.Output{Part: part, Path: path} }
	secret := func(change func(*volume.Object)) volume.Object {
		o := volume.Object{
			Kind: volume.KindSecret, Source: "objects[0]", Vault: vaultURL, Name: "s", Encoding: volume.UTF8,
			Outputs: []volume.Output{output(volume.PartValue, "s")},
		}
		change(&o)
		return o
	}
	certificate := func(change func(*volume.Object)) volume.Object {
		o := volume.Object{
			Kind: volume.KindCertificate, Source: "objects[0]", Vault: vaultURL, Name: "web",
			Outputs:    []volume.Output{output(volume.PartChain, "web.crt"), output(volume.PartKey, "web.key")},
			ChainOrder: volume.ChainOrderChain, KeyFormat: volume.PKCS8,
		}
		change(&o)
		return o
	}
	for name, row := range map[string]struct {
		yaml string
		want volume.Object
	}{
		"secret":         {"- secret: s", secret(func(*volume.Object) {})},
		"flow style":     {`[{"secret": "s"}]`, secret(func(*volume.Object) {})},
		"tabs and CRLF":  {"---\r\n- secret:\ts\r\n...\r\n", secret(func(*volume.Object) {})},
		"quoted number":  {`[{secret: "123"}]`, secret(func(o *volume.Object) { o.Name, o.Outputs[0].Path = "123", "123" })},
		"tagged string":  {`[{secret: !!str 123}]`, secret(func(o *volume.Object) { o.Name, o.Outputs[0].Path = "123", "123" })},
		"secret version": {"- {secret: s, version: " + strings.ToUpper(version) + "}", secret(func(o *volume.Object) { o.Version = version })},
		"secret, all": {
			"- {secret: s, version: " + version + ", path: a/b.c/d e, encoding: hex, mode: \"640\", optional: true, vault: Other}",
			secret(func(o *volume.Object) {
				o.Version, o.Encoding, o.Optional, o.Vault = version, volume.Hex, true, "https://other.vault.azure.net"
				o.Outputs[0] = volume.Output{Part: volume.PartValue, Path: "a/b.c/d e", Mode: 0o640}
			}),
		},
		"encoding base64": {"[{secret: s, encoding: base64}]", secret(func(o *volume.Object) { o.Encoding = volume.Base64 })},
		"encoding utf-8":  {"[{secret: s, encoding: utf-8, optional: false}]", secret(func(*volume.Object) {})},
		"mode 0777":       {`[{secret: s, mode: "0777"}]`, secret(func(o *volume.Object) { o.Outputs[0].Mode = 0o777 })},

		"certificate": {"[{certificate: web}]", certificate(func(*volume.Object) {})},
		"certificate, some": {"[{certificate: web, pfx: web.pfx, ca: ca.crt}]", certificate(func(o *volume.Object) {
			o.Outputs = []volume.Output{output(volume.PartCA, "ca.crt"), output(volume.PartPFX, "web.pfx")}
		})},
		"certificate, all": {
			"[{certificate: web, chain: a, key: b, cert: c, ca: d, pem: e, pfx: f, keyFormat: sec1, version: " + version +
				", optional: true, mode: \"0400\", vault: other}]",
			certificate(func(o *volume.Object) {
				o.Outputs = nil
				for i, part := range []volume.Part{
					volume.PartChain, volume.PartKey, volume.PartCert, volume.PartCA, volume.PartPEM, volume.PartPFX,
				} {
					o.Outputs = append(o.Outputs, volume.Output{Part: part, Path: string(rune('a' + i)), Mode: 0o400})
				}
				o.KeyFormat, o.Version, o.Optional, o.Vault = volume.SEC1, version, true, "https://other.vault.azure.net"
			}),
		},
		"certificate, chain required": {"[{certificate: web, requireChain: true}]", certificate(func(o *volume.Object) { o.RequireChain = true })},
		"certificate, pkcs1":          {"[{certificate: web, keyFormat: pkcs1}]", certificate(func(o *volume.Object) { o.KeyFormat = volume.PKCS1 })},

		"key": {"[{key: sign}]", volume.Object{
			Kind: volume.KindKey, Source: "objects[0]", Vault: vaultURL, Name: "sign",
			Outputs: []volume.Output{output(volume.PartPublicKey, "sign.pem")},
		}},
		"key, all": {"[{key: sign, path: k, mode: \"444\", version: " + version + ", optional: true}]", volume.Object{
			Kind: volume.KindKey, Source: "objects[0]", Vault: vaultURL, Name: "sign", Version: version, Optional: true,
			Outputs: []volume.Output{{Part: volume.PartPublicKey, Path: "k", Mode: 0o444}},
		}},

		"every secret": {"[{secrets: {}}]", volume.Object{
			Kind: volume.KindSelection, Source: "objects[0]", Vault: vaultURL, Selection: &volume.Selection{},
		}},
		"selection": {"[{secrets: {prefix: app-, tags: {env: prod, \"\u00fc\": \"\"}}, path: app, vault: other}]", volume.Object{
			Kind: volume.KindSelection, Source: "objects[0]", Vault: "https://other.vault.azure.net",
			Selection: &volume.Selection{Prefix: "app-", Tags: pairs{"env": "prod", "\u00fc": ""}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := mustParse(t, structured(row.yaml), nil)
			if diff := cmp.Diff([]volume.Object{row.want}, request.Objects, sameRequest); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			if request.Folders != nil {
				t.Errorf("folders %q", request.Folders)
			}
		})
	}
}

func TestSelectionEach(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]volume.Object{
		"[{secrets: {}}]": {Encoding: volume.UTF8, Outputs: []volume.Output{{Part: volume.PartValue, Path: "App-1"}}},
		"[{secrets: {prefix: app-}, path: a/b, encoding: hex, mode: \"0440\"}]": {
			Encoding: volume.Hex, Outputs: []volume.Output{{Part: volume.PartValue, Path: "a/b/App-1", Mode: 0o440}},
		},
	} {
		want.Kind, want.Source, want.Vault, want.Name, want.Optional = volume.KindSecret, "objects[0]", vaultURL, "App-1", true
		got := mustParse(t, structured(yaml), nil).Objects[0].Selection.Each("App-1")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", yaml, diff)
		}
	}
}

func TestObjectsRefused(t *testing.T) {
	t.Parallel()
	const (
		none  = "says none of secret, certificate, secrets, key, env, json, properties and manifest"
		mode  = ` must be permission bits in octal such as "0440"`
		names = " is not 1 to 127 letters, digits and hyphens"
	)
	for yaml, want := range map[string]string{
		"{":                                 "objects: is not YAML: line 1: did not find expected node content",
		"- secret: a\n b":                   "objects: is not YAML: line 1: did not find expected '-' indicator",
		"a: &x [*x]":                        "objects: line 1: anchors and aliases are not taken",
		"- &a {secret: x}\n- *a":            "objects: line 1: anchors and aliases are not taken",
		"- {secret: *nowhere}":              "objects: is not YAML: unknown anchor 'nowhere' referenced",
		"- secret: a\n---\n- secret: b":     "objects: line 2: a second YAML document begins",
		"- secret: a\n--- {":                "objects: is not YAML: line 2: did not find expected node content",
		"secret: a":                         "objects: must be a YAML list, not a mapping",
		"a":                                 "objects: must be a YAML list, not a string",
		"null":                              "objects: must be a YAML list, not nothing",
		"!!set [a]":                         `objects: must be a YAML list, not a value of type "!!set"`,
		"- a":                               "objects[0]: must be a YAML mapping, not a string",
		"- secret: a\n-":                    "objects[1]: must be a YAML mapping, not nothing",
		"- [{secret: a}]":                   "objects[0]: must be a YAML mapping, not a list",
		"- {}":                              "objects[0]: " + none,
		"- {1: a, secret: b}":               "objects[0]: has a key that is not a string but a number",
		"- {<<: {secret: a}}":               `objects[0]: has a key that is not a string but a value of type "!!merge"; objects[0]: ` + none,
		"- {secret: a, secret: b}":          "objects[0].secret: is there twice",
		"- {secret: a, certificate: b}":     "objects[0]: says both secret and certificate",
		"- {secret: a, key: b}":             "objects[0]: says both secret and key",
		"- {secrets: {}, key: b}":           "objects[0]: says both secrets and key",
		"- {Secret: a}":                     "objects[0].Secret: unknown field, did you mean secret?; objects[0]: " + none,
		"- {secret: a, colour: b}":          "objects[0].colour: unknown field",
		"- {secret: a, Path: b}":            "objects[0].Path: unknown field, did you mean path?",
		"- {secret: a, \"x\\ny\": b}":       `objects[0]."x\ny": unknown field`,
		"- {secret: a, pfx: b}":             "objects[0].pfx: does not go with secret",
		"- {key: a, encoding: hex}":         "objects[0].encoding: does not go with key",
		"- {secrets: {}, optional: true}":   "objects[0].optional: does not go with secrets",
		"- {secrets: {}, version: a}":       "objects[0].version: does not go with secrets",
		"- {certificate: a, path: b}":       "objects[0].path: does not go with certificate, name its files by chain, key, cert, ca, pem and pfx",
		"- {certificate: a, encoding: hex}": "objects[0].encoding: does not go with certificate",

		"- secret: 5":                              "objects[0].secret: must be a string, not a number, put it in quotes",
		"- secret: 2026-11-23":                     "objects[0].secret: must be a string, not a date, put it in quotes",
		"- secret: true":                           "objects[0].secret: must be a string, not a boolean, put it in quotes",
		"- secret:":                                "objects[0].secret: must be a string, not nothing",
		"- secret: [a]":                            "objects[0].secret: must be a string, not a list",
		"- secret: !!binary YQ==":                  `objects[0].secret: must be a string, not a value of type "!!binary", put it in quotes`,
		"- secret: a_b":                            `objects[0].secret: the name "a_b"` + names,
		"- certificate: ''":                        `objects[0].certificate: the name ""` + names,
		"- key: ../x":                              `objects[0].key: the name "../x"` + names,
		"- {secret: a, version: ''}":               "objects[0].version: is empty, leave it out for the latest",
		"- {secret: a, version: 1}":                "objects[0].version: must be a string, not a number, put it in quotes",
		"- {secret: a, version: x}":                `objects[0].version: the version "x" is not 32 hexadecimal digits`,
		"- {secret: a, version: latest}":           `objects[0].version: the version "latest" is not 32 hexadecimal digits, leave it out for the latest`,
		"- {secret: a, version: Latest}":           `objects[0].version: the version "Latest" is not 32 hexadecimal digits, leave it out for the latest`,
		"- {certificate: a, requireChain: 'true'}": "objects[0].requireChain: must be true or false",
		"- {secret: a, requireChain: true}":        "objects[0].requireChain: does not go with secret",
		"- {secret: a, optional: 'true'}":          "objects[0].optional: must be true or false",
		"- {secret: a, optional: yes}":             "objects[0].optional: must be true or false",
		"- {secret: a, optional: }":                "objects[0].optional: must be true or false",
		"- {secret: a, encoding: utf8}":            `objects[0].encoding: "utf8" must be utf-8, base64 or hex`,
		"- {certificate: a, keyFormat: PKCS8}":     `objects[0].keyFormat: "PKCS8" must be pkcs8, pkcs1 or sec1`,
		"- {secret: a, vault: ''}": `objects[0].vault: "" is not a vault, want https://NAME.vault.azure.net or NAME ` +
			"(3 to 24 letters, digits and single hyphens, a letter first)",

		"- {secret: a, mode: 0440}":    `objects[0].mode: "0440" is a number to YAML, quote it: "0440"`,
		"- {secret: a, mode: 288}":     `objects[0].mode: "288" is a number to YAML, quote it: "0440"`,
		"- {secret: a, mode: 0o440}":   `objects[0].mode: "0o440" is a number to YAML, quote it: "0440"`,
		"- {secret: a, mode: '0o440'}": `objects[0].mode: "0o440"` + mode,
		"- {secret: a, mode: '0888'}":  `objects[0].mode: "0888"` + mode,
		"- {secret: a, mode: '04440'}": `objects[0].mode: "04440"` + mode,
		"- {secret: a, mode: '4755'}":  `objects[0].mode: "4755"` + mode,
		"- {secret: a, mode: '0000'}":  `objects[0].mode: "0000"` + mode,
		"- {secret: a, mode: '44'}":    `objects[0].mode: "44"` + mode,
		"- {secret: a, mode: '-440'}":  `objects[0].mode: "-440"` + mode,
		"- {secret: a, mode: '+440'}":  `objects[0].mode: "+440"` + mode,
		"- {secret: a, mode: '4_40'}":  `objects[0].mode: "4_40"` + mode,
		"- {secret: a, mode: rw}":      `objects[0].mode: "rw"` + mode,

		"- secrets:":                      "objects[0].secrets: must be a YAML mapping, not nothing",
		"- secrets: '*'":                  "objects[0].secrets: must be a YAML mapping, not a string",
		"- secrets: {prefx: a}":           "objects[0].secrets.prefx: unknown field, did you mean prefix?",
		"- secrets: {prefix: ''}":         `objects[0].secrets.prefix: ""` + names,
		"- secrets: {prefix: a*}":         `objects[0].secrets.prefix: "a*"` + names,
		"- secrets: {tags: [a]}":          "objects[0].secrets.tags: must be a YAML mapping, not a list",
		"- secrets: {tags: {a: 1}}":       "objects[0].secrets.tags.a: must be a string, not a number, put it in quotes",
		"- secrets: {tags: {'': a}}":      "objects[0].secrets.tags: is not a tag, whose name has 1 to 256 characters and its value up to 256",
		"- secrets: {tags: {a: b, a: c}}": "objects[0].secrets.tags.a: is there twice",
		"- secrets: {tags: {" + strings.Repeat("a", 257) + ": b}}": `objects[0].secrets.tags."` + strings.Repeat("a", 64) +
			`"...: is not a tag, whose name has 1 to 256 characters and its value up to 256`,
		"- secrets: {tags: {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x, j: x, k: x, l: x, m: x, n: x, o: x, p: x}}": "objects[0].secrets.tags: has more than 15 tags, as many as an object can have",
		"- {secrets: {}, path: ''}": `objects[0].path: the path "" is empty`,

		"- secret: a\n- {secret: b, path: a}":                  `objects[1]: writes "a", which objects[0] writes already`,
		"- secret: a\n- secret: a":                             `objects[1]: writes "a", which objects[0] writes already`,
		"- secret: a\n- {secret: b, path: a/b}":                `objects[1]: writes "a/b", but objects[0] writes the file "a"`,
		"- {secret: b, path: a/b/c}\n- {secret: x, path: a/b}": `objects[1]: writes "a/b", which is a folder for objects[0]`,
		"- {certificate: c, key: x, cert: x}":                  `objects[0]: writes "x" twice`,
		"- {certificate: c, key: x, pfx: x/y}":                 `objects[0]: writes "x/y", but objects[0] writes the file "x"`,
	} {
		t.Run(yaml, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(structured(yaml), nil, volume.Defaults{})
			checkError(t, err, want)
		})
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"a", "a/b/c", ".hidden", "a..b", "a/.b", "...txt"[2:], "\u00fcber/\u5bc6", "a b", `a\b`, "~", "-",
		strings.Repeat("x", 255), strings.Repeat("x/", 31) + "x",
	} {
		object := mustParse(t, structured(fmt.Sprintf("- {secret: s, path: %q}", path)), nil).Objects[0]
		if object.Outputs[0].Path != path {
			t.Errorf("path %q became %q", path, object.Outputs[0].Path)
		}
	}
	for path, problem := range map[string]string{
		"":                             `"" is empty`,
		"/":                            `"/" is absolute, paths are relative to the volume`,
		"/a":                           `"/a" is absolute, paths are relative to the volume`,
		"a/":                           `"a/" has an empty component`,
		"a//b":                         `"a//b" has an empty component`,
		".":                            `"." has the component "."`,
		"a/./b":                        `"a/./b" has the component "."`,
		"..":                           `".." has a component that begins with ".."`,
		"a/../b":                       `"a/../b" has a component that begins with ".."`,
		"..data":                       `"..data" has a component that begins with ".."`,
		"...":                          `"..." has a component that begins with ".."`,
		"a/..2026_11_23":               `"a/..2026_11_23" has a component that begins with ".."`,
		"a\x00b":                       `"a\x00b" holds a control character`,
		"a\nb":                         `"a\nb" holds a control character`,
		"a\u007fb":                     `"a\x7fb" holds a control character`,
		"a\u009bb":                     `"a\u009bb" holds a control character`,
		strings.Repeat("x", 256):       `"` + strings.Repeat("x", 64) + `"... has a component longer than 255 bytes`,
		strings.Repeat("x", 1025):      `"` + strings.Repeat("x", 64) + `"... is longer than 1024 bytes`,
		strings.Repeat("x/", 32) + "x": `"` + strings.Repeat("x/", 32) + `"... has more than 32 components`,
	} {
		// YAML in double quotes accepts Go's escapes.
		_, err := volume.Parse(structured(fmt.Sprintf("- {secret: s, path: %q}", path)), nil, volume.Defaults{})
		checkError(t, err, "objects[0].path: the path "+problem)
		_, err = volume.Parse(structured(fmt.Sprintf("- {certificate: s, pfx: %q}", path)), nil, volume.Defaults{})
		checkError(t, err, "objects[0].pfx: the path "+problem)
	}
}
