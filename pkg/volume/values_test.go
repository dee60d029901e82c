package volume_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestFields(t *testing.T) {
	t.Parallel()
	field := func(path, pointer string) volume.Output {
		return volume.Output{Part: volume.PartField, Path: path, Pointer: pointer}
	}
	for yaml, want := range map[string][]volume.Output{
		"[{secret: db, field: /password}]":            {field("db", "/password")},
		`[{secret: db, field: "", path: a/b}]`:        {field("a/b", "")},
		"[{secret: db, field: /a~1b/~0/0/-/ü}]":       {field("db", "/a~1b/~0/0/-/ü")},
		"[{secret: db, field: /}]":                    {field("db", "/")},
		`[{secret: db, fields: {b/x: /x, a: ""}}]`:    {field("b/x", "/x"), field("a", "")},
		"[{secret: db, fields: {a: /x, b: /x}}]":      {field("a", "/x"), field("b", "/x")},
		`[{secret: db, field: /p, encoding: base64}]`: {field("db", "/p")},
	} {
		t.Run(yaml, func(t *testing.T) {
			t.Parallel()
			objects := mustParse(t, structured(yaml), nil).Objects
			if diff := cmp.Diff(want, objects[0].Outputs); diff != "" || len(objects) != 1 {
				t.Errorf("outputs of %d objects (-want +got):\n%s", len(objects), diff)
			}
		})
	}
	object := mustParse(t, structured(`[{secret: db, fields: {a: /x, b: /y}, mode: "0400", optional: true}]`), nil).Objects[0]
	if !object.Optional || object.Outputs[0].Mode != 0o400 || object.Outputs[1].Mode != 0o400 {
		t.Errorf("%+v", object)
	}
}

func TestValueFile(t *testing.T) {
	t.Parallel()
	request := mustParse(t, structured(`
- env: conf/app.env
  mode: "0440"
  vault: other
  from:
  - {name: DB_PASSWORD, secret: db-password}
  - {secret: Api-Key, vault: third, encoding: base64}
  - {name: user, secret: db, field: /user, version: `+version+`, optional: true}
  - secrets: {prefix: app-}
- properties: app.properties
  from:
  - {name: "spring.datasource url", secret: db}
  - {secret: db-password}
`), nil)
	const other = "https://other.vault.azure.net"
	env := &volume.ValueFile{Source: "objects[0]", Format: volume.FormatEnv, Path: "conf/app.env", Mode: 0o440}
	properties := &volume.ValueFile{Source: "objects[1]", Format: volume.FormatProperties, Path: "app.properties"}
	entry := func(file *volume.ValueFile, index int, name, secret string, change func(*volume.Object)) volume.Object {
		o := volume.Object{
			Kind: volume.KindSecret, Source: fmt.Sprintf("%s.from[%d]", file.Source, index), Vault: vaultURL, Name: secret,
			Encoding: volume.UTF8, In: file, Entry: name,
			Outputs: []volume.Output{{Part: volume.PartValue, Path: file.Path, Mode: file.Mode}},
		}
		if change != nil {
			change(&o)
		}
		return o
	}
	inOther := func(o *volume.Object) { o.Vault = other }
	want := []volume.Object{
		entry(env, 0, "DB_PASSWORD", "db-password", inOther),
		entry(env, 1, "API_KEY", "Api-Key", func(o *volume.Object) { o.Vault, o.Encoding = "https://third.vault.azure.net", volume.Base64 }),
		entry(env, 2, "user", "db", func(o *volume.Object) {
			o.Vault, o.Version, o.Optional = other, version, true
			o.Outputs[0].Part, o.Outputs[0].Pointer = volume.PartField, "/user"
		}),
		{
			Kind: volume.KindSelection, Source: "objects[0].from[3]", Vault: other, In: env,
			Selection: &volume.Selection{Prefix: "app-"},
		},
		entry(properties, 0, "spring.datasource url", "db", nil),
		entry(properties, 1, "db-password", "db-password", nil),
	}
	if diff := cmp.Diff(want, request.Objects, sameRequest); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	selected := entry(env, 3, "APP_2_X", "app-2-x", func(o *volume.Object) { o.Vault, o.Optional = other, true })
	if diff := cmp.Diff(selected, request.Objects[3].Selection.Each("app-2-x"), sameRequest); diff != "" {
		t.Errorf("the selected object (-want +got):\n%s", diff)
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	for format, want := range map[volume.Format]string{
		volume.FormatEnv: "DB_PASSWORD_2", volume.FormatJSON: "Db-Password-2", volume.FormatProperties: "Db-Password-2",
	} {
		if got := format.NameOf("Db-Password-2"); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
}

func TestNameProblem(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("A", 128)
	for _, name := range []string{"A", "_A1", "db_password", long, "PATH", "PWD", "__"} {
		if problem := volume.FormatEnv.NameProblem(name); problem != "" {
			t.Errorf("%q: %s", name, problem)
		}
	}
	const variable = " is not that of a variable, 1 to 128 letters, digits and underscores, no digit first"
	for name, want := range map[string]string{
		"":           `the name ""` + variable,
		"1A":         `the name "1A"` + variable,
		"A-B":        `the name "A-B"` + variable,
		"A.B":        `the name "A.B"` + variable,
		"A=B":        `the name "A=B"` + variable,
		"Ä":          `the name "\u00c4"` + variable,
		"A\nB":       `the name "A\nB"` + variable,
		long + "A":   `the name "` + long[:64] + `"...` + variable,
		"UID":        `the name "UID" is that of a variable which a shell sets itself, choose another one`,
		"_":          `the name "_" is that of a variable which a shell sets itself, choose another one`,
		"BASHPID":    `the name "BASHPID" is that of a variable which a shell sets itself, choose another one`,
		"OPTIND":     `the name "OPTIND" is that of a variable which a shell sets itself, choose another one`,
		"A$(reboot)": `the name "A$(reboot)"` + variable,
	} {
		if got := volume.FormatEnv.NameProblem(name); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
	for _, format := range []volume.Format{volume.FormatJSON, volume.FormatProperties} {
		for _, name := range []string{"a", "a.b[0]", "a b", "Ä", "a=b", "1", "UID", strings.Repeat("a", 256)} {
			if problem := format.NameProblem(name); problem != "" {
				t.Errorf("%s %q: %s", format, name, problem)
			}
		}
		for name, want := range map[string]string{
			"":                       "the name is empty",
			"a\nb":                   `the name "a\nb" is not UTF-8 without control characters`,
			"a\x00":                  `the name "a\x00" is not UTF-8 without control characters`,
			"\xff":                   `the name "\xff" is not UTF-8 without control characters`,
			strings.Repeat("a", 257): `the name "` + strings.Repeat("a", 64) + `"... is longer than 256 bytes`,
		} {
			if got := format.NameProblem(name); got != want {
				t.Errorf("%s %q: %s", format, name, got)
			}
		}
	}
}

func TestValuesRefused(t *testing.T) {
	t.Parallel()
	const (
		slash    = ` does not begin with "/", write a JSON Pointer such as "/db/password", or "" for the whole value`
		tilde    = ` has a "~" that is neither ~0 (for "~") nor ~1 (for "/")`
		entry    = "objects[0].from[0]"
		names    = " is not 1 to 127 letters, digits and hyphens"
		variable = " is not that of a variable, 1 to 128 letters, digits and underscores, no digit first"
	)
	for yaml, want := range map[string]string{
		"- {secret: a, field: password}":            `objects[0].field: the pointer "password"` + slash,
		"- {secret: a, field: $.a}":                 `objects[0].field: the pointer "$.a"` + slash,
		"- {secret: a, field: '#/a'}":               `objects[0].field: the pointer "#/a" is the form for a URL, leave the # out`,
		"- {secret: a, field: /a~}":                 `objects[0].field: the pointer "/a~"` + tilde,
		"- {secret: a, field: /~~01}":               `objects[0].field: the pointer "/~~01"` + tilde,
		"- {secret: a, field: /a~2b}":               `objects[0].field: the pointer "/a~2b"` + tilde,
		"- {secret: a, field: 0}":                   "objects[0].field: must be a string, not a number, put it in quotes",
		"- {secret: a, field: [a]}":                 "objects[0].field: must be a string, not a list",
		"- {secret: a, field: }":                    "objects[0].field: must be a string, not nothing",
		"- {certificate: a, field: /a}":             "objects[0].field: does not go with certificate",
		"- {secrets: {}, fields: {a: /a}}":          "objects[0].fields: does not go with secrets",
		"- {secret: a, feild: /a}":                  "objects[0].feild: unknown field, did you mean field?",
		"- {secret: a, fields: {}}":                 "objects[0].fields: is empty, write {path: pointer}",
		"- {secret: a, fields: [/a]}":               "objects[0].fields: must be a YAML mapping, not a list",
		"- {secret: a, fields: {a: b}}":             `objects[0].fields.a: the pointer "b"` + slash,
		"- {secret: a, fields: {/a: /b}}":           `objects[0].fields./a: the path "/a" is absolute, paths are relative to the volume`,
		"- {secret: a, fields: {a: /b, a: /c}}":     "objects[0].fields.a: is there twice",
		"- {secret: a, fields: {a: /b, a/b: /c}}":   `objects[0]: writes "a/b", but objects[0] writes the file "a"`,
		"- {secret: a, field: /a, fields: {a: /b}}": "objects[0].field: does not go with fields, which names all files of the secret",
		"- {secret: a, path: b, fields: {a: /b}}":   "objects[0].path: does not go with fields, which names all files of the secret",
		"- {secret: a, field: /" + strings.Repeat("a", 512) + "}": `objects[0].field: the pointer "/` + strings.Repeat("a", 63) +
			`"... is longer than 512 bytes`,
		"- {secret: a, field: " + strings.Repeat("/a", 33) + "}": `objects[0].field: the pointer "` + strings.Repeat("/a", 32) +
			`"... has more than 32 components`,

		"- env: a":                                        `objects[0].from: is missing, list the values of the file: [{name: NAME, secret: "..."}]`,
		"- {env: a, from: }":                              "objects[0].from: must be a YAML list, not nothing",
		"- {env: a, from: {secret: a}}":                   "objects[0].from: must be a YAML list, not a mapping",
		"- {env: a, from: []}":                            "objects[0].from: is empty, list the values of the file",
		"- {env: a, from: [a]}":                           entry + ": must be a YAML mapping, not a string",
		"- {env: a, from: [{}]}":                          entry + ": says none of secret and secrets",
		"- {env: '', from: [{secret: a}]}":                `objects[0].env: the path "" is empty`,
		"- {json: ../a, from: [{secret: a}]}":             `objects[0].json: the path "../a" has a component that begins with ".."`,
		"- {env: 1, from: [{secret: a}]}":                 "objects[0].env: must be a string, not a number, put it in quotes",
		"- {env: a, path: b, from: [{secret: a}]}":        "objects[0].path: does not go with env",
		"- {env: a, optional: true, from: [{secret: a}]}": "objects[0].optional: does not go with env",
		"- {env: a, json: b, from: [{secret: a}]}":        "objects[0]: says both env and json",
		"- {secret: a, env: b, from: [{secret: a}]}":      "objects[0]: says both secret and env",
		"- {secret: a, from: [{secret: a}]}":              "objects[0].from: does not go with secret",
		"- {env: a, mode: 0440, from: [{secret: a}]}":     `objects[0].mode: "0440" is a number to YAML, quote it: "0440"`,
		"- {env: a, vault: a_b, from: [{secret: a}]}": `objects[0].vault: "a_b" is not a vault, want https://NAME.vault.azure.net or NAME ` +
			"(3 to 24 letters, digits and single hyphens, a letter first)",

		"- {env: a, from: [{secret: a, secrets: {}}]}":             entry + ": says both secret and secrets",
		"- {env: a, from: [{certificate: a}]}":                     entry + ".certificate: does not go with from, whose entries are secrets; " + entry + ": says none of secret and secrets",
		"- {env: a, from: [{secert: a}]}":                          entry + ".secert: unknown field, did you mean secret?; " + entry + ": says none of secret and secrets",
		"- {env: a, from: [{secret: a, nane: B}]}":                 entry + ".nane: unknown field, did you mean name?",
		"- {env: a, from: [{secret: a, mode: '0440'}]}":            entry + ".mode: belongs to the file, not to an entry of from",
		"- {env: a, from: [{secret: a, path: b}]}":                 entry + ".path: belongs to the file, not to an entry of from",
		"- {env: a, from: [{secret: a, fields: {b: /c}}]}":         entry + ".fields: does not go with from, whose entries are secrets",
		"- {env: a, from: [{secrets: {}, name: B}]}":               entry + ".name: does not go with secrets, whose names are made from those in the vault",
		"- {env: a, from: [{secrets: {}, optional: true}]}":        entry + ".optional: does not go with secrets",
		"- {env: a, from: [{secrets: {prefx: a}}]}":                entry + ".secrets.prefx: unknown field, did you mean prefix?",
		"- {env: a, from: [{secret: a_b}]}":                        entry + `.secret: the name "a_b"` + names,
		"- {env: a, from: [{secret: 1a}]}":                         entry + `.name: the name "1A"` + variable,
		"- {env: a, from: [{secret: uid}]}":                        entry + `.name: the name "UID" is that of a variable which a shell sets itself, choose another one`,
		"- {env: a, from: [{name: a-b, secret: a}]}":               entry + `.name: the name "a-b"` + variable,
		"- {env: a, from: [{name: 1, secret: a}]}":                 entry + ".name: must be a string, not a number, put it in quotes",
		"- {json: a, from: [{name: '', secret: a}]}":               entry + ".name: the name is empty",
		"- {json: a, from: [{secret: a, field: /b}]}":              entry + ".name: is missing, a field needs one",
		"- {json: a, from: [{name: a, secret: a, field: b}]}":      entry + `.field: the pointer "b"` + slash,
		"- {json: a, from: [{name: a, secret: a, encoding: x}]}":   entry + `.encoding: "x" must be utf-8, base64 or hex`,
		"- {json: a, from: [{name: a, secret: a, version: x}]}":    entry + `.version: the version "x" is not 32 hexadecimal digits`,
		"- {json: a, from: [{name: a, secret: a, optional: yes}]}": entry + ".optional: must be true or false",

		"- {env: a, from: [{name: B, secret: a}, {name: C, secret: a}, {name: B, secret: c}]}": `objects[0].from[2].name: "B" is the name of objects[0].from[0] already`,
		"- {env: a, from: [{name: A_B, secret: x}, {secret: a-b}]}":                            `objects[0].from[1].name: "A_B" is the name of objects[0].from[0] already`,
		"- {env: a, from: [{secret: a}]}\n- {json: a, from: [{secret: a}]}":                    `objects[1]: writes "a", which objects[0] writes already`,
		"- {env: a, from: [{secret: a}]}\n- {secret: a, path: a/b}":                            `objects[1]: writes "a/b", but objects[0] writes the file "a"`,
		"- secret: a\n- {env: a, from: [{secret: x}, {secret: y}]}":                            `objects[1]: writes "a", which objects[0] writes already`,
	} {
		t.Run(yaml, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(structured(yaml), nil, volume.Defaults{})
			checkError(t, err, want)
		})
	}
}

// The vault is needed only for entries that have none, neither of their own nor of their file.
func TestValueFileVault(t *testing.T) {
	t.Parallel()
	none := pairs{"vault": "-", "secrets": "-"}
	for yaml, want := range map[string]string{
		"- {env: a, vault: shop, from: [{secret: a}]}":              "",
		"- {env: a, from: [{secret: a, vault: shop}]}":              "",
		"- {env: a, from: [{secret: a, vault: shop}, {secret: b}]}": "vault: is missing, and objects[0].from[1] names no vault of its own",
		"- {env: a, from: [{secrets: {}}]}":                         "vault: is missing, and objects[0].from[0] names no vault of its own",
	} {
		_, err := volume.Parse(valid(none, pairs{"objects": yaml}), nil, volume.Defaults{})
		checkError(t, err, want)
	}
}

// The entries of all files count together.
func TestTooManyEntries(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for file := range 3 {
		fmt.Fprintf(&b, "- json: f%d\n  from:\n", file)
		for i := range 1365 {
			fmt.Fprintf(&b, "  - {secret: s%d}\n", i)
		}
	}
	if got := len(mustParse(t, structured(b.String()), nil).Objects); got != 4095 {
		t.Errorf("%d objects", got)
	}
	_, err := volume.Parse(structured(b.String()+"- {secret: s, fields: {a: /a, b: /b}}"), nil, volume.Defaults{})
	checkError(t, err, "objects[3].fields: has too many entries, at most 4096 in from and fields of all objects")
}
