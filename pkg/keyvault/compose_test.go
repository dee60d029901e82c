package keyvault_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// structured is a request for the objects of a YAML list.
func (w *fixture) structured(yaml string) volume.Request {
	w.t.Helper()
	r, err := volume.Parse(map[string]string{
		volume.KubeletPodName: "web-1", volume.KubeletPodNamespace: "shop", volume.KubeletPodUID: "33333333-0000-0000-0000-000000000001",
		volume.KubeletServiceAccount: "web", volume.AttributeVault: "shop", volume.AttributeObjects: yaml,
	}, map[string]string{volume.SecretClientID: clientID, volume.SecretClientSecret: clientSecret}, volume.Defaults{})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// wants compares all files.
func (w *fixture) wants(yaml string, want map[string]string) {
	w.t.Helper()
	got := w.fetch(w.structured(yaml))
	for path := range want {
		if got[path] != want[path] {
			w.t.Errorf("%s: %s is %q, want %q", yaml, path, got[path], want[path])
		}
	}
	if len(got) != len(want) {
		w.t.Errorf("%s: %d files", yaml, len(got))
	}
}

// Several fields, in files of their own and in other files, are one request to the vault.
func TestFieldsAreOneRequest(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("db", `{"user": "app", "password": "p'w\n", "port": 5432.0, "tls": {"b": 1.50, "a": [true, null]}}`, devcloud.SecretOptions{})
	w.wants(`
- {secret: db, field: /password}
- {secret: db, fields: {db.d/user: /user, db.d/port: /port, db.d/tls: /tls, db.d/on: /tls/a/0, db.d/none: /tls/a/1}}
- {secret: db, path: all}
- {json: app.json, from: [{name: user, secret: DB, field: /user}, {name: tls, secret: db, field: /tls}]}
- {env: app.env, from: [{name: PORT, secret: db, field: /port}]}
`, map[string]string{
		"db": "p'w\n", "db.d/user": "app", "db.d/port": "5432.0", "db.d/tls": `{"b":1.50,"a":[true,null]}`, "db.d/on": "true", "db.d/none": "null",
		"all":      `{"user": "app", "password": "p'w\n", "port": 5432.0, "tls": {"b": 1.50, "a": [true, null]}}`,
		"app.json": "{\n  \"user\": \"app\",\n  \"tls\": \"{\\\"b\\\":1.50,\\\"a\\\":[true,null]}\"\n}\n",
		"app.env":  "PORT='5432.0'\n",
	})
	if n := w.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200}); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestFieldEncoding(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("keys", `{"b64": "AAEC\n/w==", "hex": "00 ff", "number": 12, "bad": "x!"}`, devcloud.SecretOptions{})
	w.wants("[{secret: keys, field: /b64, encoding: base64}, {secret: keys, field: /hex, encoding: hex, path: h}]",
		map[string]string{"keys": "\x00\x01\x02\xff", "h": "\x00\xff"})
	const about = `objects[0]: secret "keys" of https://shop.vault.azure.net `
	w.fails(w.structured("[{secret: keys, field: /number, encoding: hex}]"), volume.ErrPrecondition,
		about+`has a field "/number" that is no string and so not hex; leave the encoding out`)
	w.fails(w.structured("[{secret: keys, field: /bad, encoding: base64}]"), volume.ErrPrecondition,
		about+`is not base64; correct the value or the encoding`)
}

// The errors name the pointer and how far it got, and never what is there.
func TestFieldErrors(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("db", `{"db": {"user": "planted", "twice": 1, "twice": 2}, "planted": "\ud800", "half": "\ud800"}`, devcloud.SecretOptions{})
	w.vault.SetSecret("text", "planted", devcloud.SecretOptions{})
	w.vault.SetSecret("deep", strings.Repeat("[", 12_000)+strings.Repeat("]", 12_000), devcloud.SecretOptions{})
	for yaml, want := range map[string]string{
		"[{secret: db, field: /db/password}]":                  `secret "db" of https://shop.vault.azure.net has no field "/db/password", "/db" has no member "password"; correct the pointer or the value`,
		"[{secret: db, field: /db/user/first}]":                `secret "db" of https://shop.vault.azure.net has no field "/db/user/first", "/db/user" is a string; correct the pointer or the value`,
		"[{secret: db, fields: {a: /db/user, b: /x}}]":         `secret "db" of https://shop.vault.azure.net has no field "/x", the value has no member "x"; correct the pointer or the value`,
		"[{secret: db, field: /db/twice}]":                     `secret "db" of https://shop.vault.azure.net has no field "/db/twice", "/db/twice" is there twice; correct the pointer or the value`,
		"[{secret: db, field: /db/twice, optional: true}]":     `secret "db" of https://shop.vault.azure.net has no field "/db/twice", "/db/twice" is there twice; correct the pointer or the value`,
		"[{secret: db, field: /half}]":                         `secret "db" of https://shop.vault.azure.net has a field "/half" that is a string with half of a surrogate pair; correct the value`,
		"[{secret: text, field: /a}]":                          `secret "text" of https://shop.vault.azure.net has no field "/a", its value is not JSON; correct the value, or leave the field out`,
		"[{secret: text, field: /a, optional: true}]":          `secret "text" of https://shop.vault.azure.net has no field "/a", its value is not JSON; correct the value, or leave the field out`,
		"[{secret: deep, field: /0/0}]":                        `secret "deep" of https://shop.vault.azure.net has no field "/0/0", its value is not JSON; correct the value, or leave the field out`,
		"[{env: f, from: [{name: A, secret: db, field: /ü}]}]": `secret "db" of https://shop.vault.azure.net has no field "/\u00fc", the value has no member "\u00fc"; correct the pointer or the value`,
	} {
		t.Run(yaml, func(t *testing.T) {
			source := "objects[0]: "
			if strings.Contains(yaml, "from") {
				source = "objects[0].from[0]: "
			}
			_, err := w.client.Fetch(t.Context(), w.structured(yaml))
			if !errors.Is(err, volume.ErrPrecondition) || err.Error() != source+want || strings.Contains(err.Error(), "planted") {
				t.Errorf("got  %v\nwant %s", err, source+want)
			}
		})
	}
}

// An optional field that is absent, and an optional secret, write nothing. The file of values is there all the same.
func TestOptionalEntries(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("db", `{"user": "app"}`, devcloud.SecretOptions{})
	w.wants(`
- {secret: db, fields: {user: /user, password: /password}, optional: true}
- {secret: absent, field: /a, optional: true}
- env: app.env
  from:
  - {name: A, secret: db, field: /password, optional: true}
  - {name: B, secret: db, field: /user, optional: true}
  - {name: C, secret: absent, optional: true}
- {env: empty.env, from: [{name: C, secret: absent, optional: true}]}
- {json: empty.json, from: [{name: C, secret: absent, optional: true}]}
- {properties: empty.properties, from: [{secrets: {prefix: nothing-}}]}
`, map[string]string{"user": "app", "app.env": "B='app'\n", "empty.env": "", "empty.json": "{}\n", "empty.properties": ""})
}

// The names of a selection are made from those of the secrets, in their alphabetical order, whatever the vault's is.
func TestSelectedEntries(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for _, name := range []string{"app-z", "App-url", "app-2-b", "other"} {
		w.vault.SetSecret(name, "value of "+name, devcloud.SecretOptions{})
	}
	w.vault.SetSecret("app-off", "x", devcloud.SecretOptions{Disabled: true})
	w.wants(`
- {env: a.env, from: [{name: FIRST, secret: other}, {secrets: {prefix: app-}}, {secret: other}]}
- {json: a.json, from: [{secrets: {prefix: APP-}}]}
- {properties: a.properties, mode: "0400", from: [{secrets: {prefix: app-}}]}
`, map[string]string{
		"a.env":        "FIRST='value of other'\nAPP_URL='value of App-url'\nAPP_2_B='value of app-2-b'\nAPP_Z='value of app-z'\nOTHER='value of other'\n",
		"a.json":       "{\n  \"App-url\": \"value of App-url\",\n  \"app-2-b\": \"value of app-2-b\",\n  \"app-z\": \"value of app-z\"\n}\n",
		"a.properties": "App-url=value of App-url\napp-2-b=value of app-2-b\napp-z=value of app-z\n",
	})
	content, err := w.client.Fetch(t.Context(), w.structured("[{properties: p, mode: \"0400\", from: [{secrets: {prefix: app-}}]}]"))
	if err != nil || content.Files[0].Mode != fs.FileMode(0o400) {
		t.Errorf("%v, %v", content.Files, err)
	}
}

// What a file cannot hold is an error that names the entry.
func TestEntryErrors(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.addVault("other", tenantID).Grant(clientID)
	for name, value := range map[string]string{
		"quote": "plan'ted", "nul": "planted\x00", "empty": "", "crlf": "planted\r\nx", "latin": "cGxhbnRlZOQ=", "app-a": "planted", "1-app": "planted", "uid": "planted",
	} {
		w.vault.SetSecret(name, value, devcloud.SecretOptions{})
	}
	const (
		shop  = " of https://shop.vault.azure.net"
		other = "; change the value, or write it to a json or properties file, or to one of its own"
		own   = "; change the value, or write it to a file of its own"
	)
	for _, row := range []struct {
		yaml     string
		sentinel error
		want     string
	}{
		{"[{env: app.env, from: [{secret: app-a}, {name: B, secret: quote}]}]", volume.ErrPrecondition,
			`objects[0].from[1]: secret "quote"` + shop + ` cannot be the entry "B" of "app.env": it has a single quote, which the format cannot express` + other},
		{"[{env: app.env, from: [{secret: nul}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "nul"` + shop + ` cannot be the entry "NUL" of "app.env": it has a NUL, which no variable can have` + other},
		{"[{env: app.env, from: [{secret: empty}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "empty"` + shop + ` cannot be the entry "EMPTY" of "app.env": it is empty, which Kubernetes takes for absent` + other},
		{"[{env: app.env, from: [{secrets: {prefix: crlf}}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "crlf"` + shop + ` cannot be the entry "CRLF" of "app.env": it has a carriage return before a line feed, which Kubernetes drops` + other},
		{"[{json: a.json, from: [{secret: latin, encoding: base64}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "latin"` + shop + ` cannot be the entry "latin" of "a.json": it is not UTF-8` + own},
		{"[{properties: a, from: [{name: ü, secret: latin, encoding: base64}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "latin"` + shop + ` cannot be the entry "\u00fc" of "a": it is not UTF-8` + own},

		{"[{env: app.env, from: [{secrets: {prefix: 1-}}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "1-app"` + shop + ` cannot be an entry of "app.env", the name "1_APP" is not that of a variable, ` +
				`1 to 128 letters, digits and underscores, no digit first; select fewer, and list it with a name`},
		{"[{env: app.env, from: [{secrets: {prefix: uid}}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "uid"` + shop + ` cannot be an entry of "app.env", the name "UID" is that of a variable which a shell sets itself, ` +
				`choose another one; select fewer, and list it with a name`},
		{"[{env: app.env, from: [{name: APP_A, secret: uid}, {secrets: {prefix: app-}}]}]", volume.ErrInvalid,
			`objects[0].from[1]: secret "app-a"` + shop + ` is the entry "APP_A" of "app.env", and so is objects[0].from[0]: secret "uid"` + shop +
				`; select fewer, or choose another name`},
		{"[{json: a, from: [{secrets: {prefix: app-}}, {secrets: {}}]}]", volume.ErrInvalid,
			`objects[0].from[1]: secret "app-a"` + shop + ` is the entry "app-a" of "a", and so is objects[0].from[0]: secret "app-a"` + shop +
				`; select fewer, or choose another name`},
		{"[{secrets: {}, path: d}, {json: d/app-a, from: [{secret: uid}]}]", volume.ErrInvalid,
			`objects[1]: writes "d/app-a", which objects[0] writes already`},
	} {
		t.Run(row.yaml, func(t *testing.T) {
			_, err := w.client.Fetch(t.Context(), w.structured(row.yaml))
			if !errors.Is(err, row.sentinel) || err.Error() != row.want {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}
