package golden_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// valueFiles is a list with every kind of file of values and of field.
const valueFiles = `
- env: app.env
  mode: "0400"
  from:
  - {name: DB_PASSWORD, secret: db, field: /password}
  - {name: DB_PORT, secret: db, field: /port}
  - {name: DB_CA, secret: db, field: /ca, optional: true}
  - {secret: motto}
  - {name: NOTHING, secret: absent, optional: true}
  - secrets: {prefix: app-, tags: {env: prod}}
- json: conf/app.json
  from:
  - {name: password, secret: db, field: /password}
  - {name: hosts, secret: db, field: /hosts}
  - {name: raw, secret: encoded, encoding: base64}
- properties: conf/app.properties
  from:
  - {name: spring.datasource.password, secret: db, field: /password}
  - {secret: motto}
- {secret: db, field: /password}
- {secret: db, fields: {db.d/hosts: /hosts, db.d/first: /hosts/0, db.d/all: ""}}
`

// TestValueFiles compares the whole tree: paths, modes and bytes. acs-keyvault-agent has nothing like it.
func TestValueFiles(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	for name, value := range map[string]string{
		"db":      `{"password": "p\"w $x\n", "port": 5432.10, "hosts": [ "a", "b" ]}`,
		"motto":   "zwölf = \\ # Boxkämpfer",
		"encoded": "w6Q=",
	} {
		n.Vault.SetSecret(name, value, devcloud.SecretOptions{})
	}
	prod := devcloud.SecretOptions{Tags: map[string]string{"env": "prod"}}
	n.Vault.SetSecret("app-url", "https://example.com/?a=b&c", prod)
	n.Vault.SetSecret("App-Key", "k", prod)
	n.Vault.SetSecret("app-test", "not selected", devcloud.SecretOptions{})
	folder := entry{Mode: "0755/"}
	want := map[string]entry{
		"conf": folder, "db.d": folder,
		"app.env": {Mode: "0400", Data: "DB_PASSWORD='p\"w $x\n'\nDB_PORT='5432.10'\nMOTTO='zwölf = \\ # Boxkämpfer'\n" +
			"APP_KEY='k'\nAPP_URL='https://example.com/?a=b&c'\n"},
		"conf/app.json": {Mode: "0644", Data: `{
  "password": "p\"w $x\n",
  "hosts": "[\"a\",\"b\"]",
  "raw": "ä"
}
`},
		"conf/app.properties": {Mode: "0644", Data: `spring.datasource.password=p"w $x\n` + "\n" + `motto=zw\u00F6lf = \\ # Boxk\u00E4mpfer` + "\n"},
		"db":                  {Mode: "0644", Data: "p\"w $x\n"},
		"db.d/hosts":          {Mode: "0644", Data: `["a","b"]`},
		"db.d/first":          {Mode: "0644", Data: "a"},
		"db.d/all":            {Mode: "0644", Data: `{"password":"p\"w $x\n","port":5432.10,"hosts":["a","b"]}`},
	}
	v := volume(t, attributes{"objects": valueFiles})
	n.MustPublish(t, v)
	compare(t, n.Target(v), want)
	if reads := n.Cloud.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200}); reads != 5 {
		t.Errorf("%d reads for 5 secrets", reads)
	}

	// sh reads the file that is mounted.
	out, err := exec.CommandContext(t.Context(), "sh", "-c",
		`. "$0"; printf '%s|' "$DB_PASSWORD" "$DB_PORT" "$MOTTO" "$APP_KEY" "$APP_URL"`, filepath.Join(n.Target(v), "app.env")).Output()
	if got := string(out); err != nil || got != "p\"w $x\n|5432.10|zwölf = \\ # Boxkämpfer|k|https://example.com/?a=b&c|" {
		t.Errorf("sh read %q, %v", got, err)
	}

	if mountns.InUserNamespace() {
		t.Skip("the rest: in the user namespace of an ordinary user no group but its own exists, and gid= of a tmpfs needs one")
	}
	v = volume(t, attributes{"objects": "- {env: app.env, from: [{secret: motto}]}\n- {json: app.json, mode: \"0444\", from: [{secret: motto}]}"})
	v.Name += "-group"
	v.FSGroup = "1234"
	n.MustPublish(t, v)
	got := tree(t, n.Target(v))
	if got["app.env"].Mode != "0640" || got["app.json"].Mode != "0444" {
		t.Errorf("with fsGroup: %v", got)
	}
}

// TestValueFilesRefused: a value that a file cannot hold leaves no volume, and is not in the error.
func TestValueFilesRefused(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	for name, value := range map[string]string{"good": "x", "quote": "'", "empty": "", "text": "hunter2", "long": strings.Repeat("x", 64<<10)} {
		n.Vault.SetSecret(name, value, devcloud.SecretOptions{})
	}
	for objects, ending := range map[string]string{
		"[{env: a, from: [{secret: good}, {secret: quote}]}]": `secret "quote" of ` + node.VaultURL + ` cannot be the entry "QUOTE" of "a": it has a single quote, ` +
			"which the format cannot express; change the value, or write it to a json or properties file, or to one of its own",
		"[{env: a, from: [{secret: empty}]}]": `it is empty, which Kubernetes takes for absent; ` +
			"change the value, or write it to a json or properties file, or to one of its own",
		"[{env: a, from: [{secret: long}]}]": `it has a line of 64 KiB, which Kubernetes does not read; ` +
			"change the value, or write it to a json or properties file, or to one of its own",
		"[{secret: text, field: /a}]": `secret "text" of ` + node.VaultURL + ` has no field "/a", its value is not JSON; correct the value, or leave the field out`,
	} {
		refuses(t, n, attributes{"objects": objects}, codes.FailedPrecondition, ending)
	}
	refuses(t, n, attributes{"objects": "[{env: a, from: [{secret: good}, {name: GOOD, secret: text}]}]"}, codes.InvalidArgument,
		`objects[0].from[1].name: "GOOD" is the name of objects[0].from[0] already`)
}
