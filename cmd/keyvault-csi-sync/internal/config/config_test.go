package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := config.Parse([]byte(`
prune: true
secrets:
- name: db-login
  data: {password: db/password}
- name: web
  type: kubernetes.io/tls
  adopt: true
  labels: {app: web}
  annotations: {example.com/team: web}
  data: {tls.crt: web.crt, tls.key: web.key, ca.crt: ca.crt}
`))
	want := config.Config{Prune: true, Secrets: []config.Secret{
		{Name: "db-login", Type: "Opaque", Data: map[string]string{"password": "db/password"}},
		{
			Name: "web", Type: "kubernetes.io/tls", Adopt: true, Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"example.com/team": "web"},
			Data:        map[string]string{"tls.crt": "web.crt", "tls.key": "web.key", "ca.crt": "ca.crt"},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if c, err := config.Parse(nil); err != nil || len(c.Secrets) != 0 {
		t.Errorf("an empty file: %+v, %v", c, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"unknown field": {
			"secrets: [{name: a, dat: {k: f}}]", "the configuration is not valid: yaml: unmarshal errors:   line 1: field dat not found in type config.Secret",
		},
		"two documents": {
			"secrets: []\n---\nsecrets: []", "the configuration is not valid: it has more than one YAML document; put all Secrets into one list",
		},
		"no name": {
			"secrets: [{data: {k: f}}]", `secrets[0].name: "" is not a name of a Secret: a lowercase RFC 1123 subdomain must consist of`,
		},
		"twice": {
			"secrets: [{name: a, data: {k: f}}, {name: a, data: {l: f}}]", `secrets[1].name: "a" is also secrets[0]; write one entry with all keys`,
		},
		"type of tokens": {
			"secrets: [{name: a, type: kubernetes.io/service-account-token, data: {k: f}}]",
			`secrets[0].type: "kubernetes.io/service-account-token" is not one of Opaque, kubernetes.io/tls, kubernetes.io/dockerconfigjson, ` +
				"kubernetes.io/basic-auth, kubernetes.io/ssh-auth",
		},
		"no data":       {"secrets: [{name: a}]", "secrets[0].data: is empty; write {KEY: PATH OF A FILE}"},
		"key":           {"secrets: [{name: a, data: {a/b: f}}]", "secrets[0].data[a/b]: is not a key of a Secret: a valid config key must consist of"},
		"no path":       {"secrets: [{name: a, data: {k: ''}}]", "secrets[0].data[k]: has no path; write the path of a file in the volume"},
		"absolute path": {"secrets: [{name: a, data: {k: /f}}]", `secrets[0].data[k]: "/f" is not the path of a file in the volume; write it relative to the volume, without ..`},
		"path outside":  {"secrets: [{name: a, data: {k: a/../../f}}]", `secrets[0].data[k]: "a/../../f" is not the path of a file in the volume`},
		"hidden path":   {"secrets: [{name: a, data: {k: ..data/f}}]", `secrets[0].data[k]: "..data/f" is not the path of a file in the volume`},
		"tls":           {"secrets: [{name: a, type: kubernetes.io/tls, data: {tls.crt: f}}]", "secrets[0].data: a Secret of type kubernetes.io/tls needs the keys tls.crt and tls.key"},
		"docker": {
			"secrets: [{name: a, type: kubernetes.io/dockerconfigjson, data: {k: f}}]",
			"secrets[0].data: a Secret of type kubernetes.io/dockerconfigjson needs the key .dockerconfigjson",
		},
		"basic": {
			"secrets: [{name: a, type: kubernetes.io/basic-auth, data: {k: f}}]",
			"secrets[0].data: a Secret of type kubernetes.io/basic-auth needs the key username or password",
		},
		"ssh": {
			"secrets: [{name: a, type: kubernetes.io/ssh-auth, data: {k: f}}]",
			"secrets[0].data: a Secret of type kubernetes.io/ssh-auth needs the key ssh-privatekey",
		},
		"mark": {
			"secrets: [{name: a, labels: {sync.keyvault-csi.io/name: x}, data: {k: f}}]",
			"secrets[0].labels[sync.keyvault-csi.io/name]: keyvault-csi-sync sets the marks below sync.keyvault-csi.io/ itself; remove it",
		},
		"label":      {"secrets: [{name: a, labels: {app: 'a b'}, data: {k: f}}]", "secrets[0].labels: Invalid value: \"a b\""},
		"annotation": {"secrets: [{name: a, annotations: {'a b': c}, data: {k: f}}]", "secrets[0].annotations: Invalid value: \"a b\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse([]byte(test.text))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

// All problems are reported at once.
func TestAllProblems(t *testing.T) {
	t.Parallel()
	_, err := config.Parse([]byte("secrets: [{name: A, type: x}, {name: b, data: {k: /f}}]"))
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("want four problems: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("secrets: [{name: a, type: kubernetes.io/tls, data: {tls.crt: a/b, tls.key: c}}]"))
	f.Add([]byte("prune: true\nsecrets: [{name: a, labels: {a: b}, data: {k: ../x}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text)
		if err != nil {
			return
		}
		for _, s := range c.Secrets {
			for key, path := range s.Data {
				if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") {
					t.Errorf("key %s: the path %q leads out of the volume", key, path)
				}
			}
		}
	})
}
