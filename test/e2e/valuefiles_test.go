package e2e

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// testValueFiles: a process in a pod reads what the manifest of docs/values.md asks for, and beside it a keystore with a password and a
// manifest of the versions. After a rotation all of it is of the new set.
func testValueFiles(t *testing.T, e *env) {
	v, p, pod := e.newVault(t), e.newPod("values"), documented(t, "values.md", "shop.yaml")
	p.adapt(t, v, pod)
	attributes := named(t, pod["spec"].(object)["volumes"], "secrets")["csi"].(object)["volumeAttributes"].(object)
	attributes["objects"] = attributes["objects"].(string) + `
- {certificate: web-tls, pfx: web.p12, pfxPassword: {secret: web-tls-password}}
- manifest: versions.json
`
	v.admin(t, "/certificates", object{"vault": v.name, "name": "web-tls", "commonName": "www.shop.example", "intermediates": 1})
	v.set(t, "app-url", "https://shop.example")
	v.setValues(t, "first")
	p.create(t, pod)
	p.awaitRunning(t)
	first := p.wantValues(t, "first")
	same := p.sameProcess(t)

	p.age(t, 0) // no fetch before all is set
	v.setValues(t, "second")
	p.age(t, time.Minute)
	p.awaitContent(t, mountPath+"/db-password", "second")
	second := p.wantValues(t, "second")
	for _, name := range []string{"db", "web-tls-password"} {
		if first[name] == "" || first[name] == second[name] {
			t.Errorf("the manifest has the versions %q and then %q of %s", first[name], second[name], name)
		}
	}
	if first["web-tls"] == "" || first["web-tls"] != second["web-tls"] {
		t.Errorf("the manifest has the versions %q and then %q of web-tls, which has not changed", first["web-tls"], second["web-tls"])
	}
	same()
}

// setValues sets the secrets of the test so that all depend on one value.
func (v vault) setValues(t *testing.T, value string) {
	t.Helper()
	v.set(t, "db", `{"user": "shop", "password": "`+value+`", "hosts": ["a",  "b"]}`)
	v.set(t, "web-tls-password", "password "+value)
}

// wantValues checks all files, and returns the versions in the manifest by the names of the objects.
func (p *pod) wantValues(t *testing.T, value string) map[string]string {
	t.Helper()
	files, err := p.files(t.Context(), mountPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"db-password":    value,
		"db/user":        "shop",
		"db/hosts.json":  `["a","b"]`,
		"app.env":        "DB_PASSWORD='" + value + "'\nAPP_URL='https://shop.example'\n",
		"app.json":       "{\n  \"password\": \"" + value + "\"\n}\n",
		"app.properties": "spring.datasource.password=" + value + "\n",
	} {
		if got := string(files[name].Data); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	_, leaf, chain, err := pkcs12.DecodeChain(files["web.p12"].Data, "password "+value)
	if err != nil || leaf.Subject.CommonName != "www.shop.example" || len(chain) != 2 {
		t.Errorf("web.p12 has the certificate %v and a chain of %d, %v", leaf, len(chain), err)
	}
	var manifest struct {
		Objects []struct {
			Name, Version string
			Absent        bool
		}
	}
	if err := json.Unmarshal(files["versions.json"].Data, &manifest); err != nil {
		t.Fatal(err)
	}
	versions, absent := map[string]string{}, []string{}
	for _, o := range manifest.Objects {
		versions[o.Name] = o.Version
		if o.Absent {
			absent = append(absent, o.Name)
		}
	}
	if !slices.Equal(absent, []string{"db-ca"}) {
		t.Errorf("the manifest has %q as absent, want db-ca", absent)
	}
	return versions
}
