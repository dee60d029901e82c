package keyvault_test

import (
	"io/fs"
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
