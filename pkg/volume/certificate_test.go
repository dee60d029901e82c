package volume_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestPFXPassword(t *testing.T) {
	t.Parallel()
	pfx := func(change func(o, password *volume.Object)) volume.Object {
		password := &volume.Object{
			Kind: volume.KindSecret, Source: "objects[0].pfxPassword", Vault: vaultURL, Name: "p", Encoding: volume.UTF8,
		}
		o := volume.Object{
			Kind: volume.KindCertificate, Source: "objects[0]", Vault: vaultURL, Name: "web",
			Outputs:    []volume.Output{{Part: volume.PartPFX, Path: "web.p12"}},
			ChainOrder: volume.ChainOrderChain, KeyFormat: volume.PKCS8, Password: password, PFXProfile: volume.PFXModern,
		}
		change(&o, password)
		return o
	}
	const other = "https://other.vault.azure.net"
	for name, row := range map[string]struct {
		yaml string
		want volume.Object
	}{
		"password": {"- {certificate: web, pfx: web.p12, pfxPassword: {secret: p}}", pfx(func(_, _ *volume.Object) {})},
		"legacy": {
			"- {certificate: web, pfx: web.p12, pfxPassword: {secret: p}, pfxProfile: legacy}",
			pfx(func(o, _ *volume.Object) { o.PFXProfile = volume.PFXLegacy }),
		},
		"version": {
			"- {certificate: web, pfx: web.p12, pfxPassword: {secret: p, version: " + version + "}, pfxProfile: modern}",
			pfx(func(_, password *volume.Object) { password.Version = version }),
		},
		"the vault of the certificate": {
			"- {certificate: web, vault: other, pfx: web.p12, pfxPassword: {secret: p}}",
			pfx(func(o, password *volume.Object) { o.Vault, password.Vault = other, other }),
		},
		"a vault of its own": {
			"- {certificate: web, pfx: web.p12, pfxPassword: {secret: p, vault: other}}",
			pfx(func(_, password *volume.Object) { password.Vault = other }),
		},
		"optional": {
			"- {certificate: web, optional: true, pfx: web.p12, pfxPassword: {secret: p}}",
			pfx(func(o, password *volume.Object) { o.Optional, password.Optional = true, true }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff([]volume.Object{row.want}, mustParse(t, structured(row.yaml), nil).Objects, sameRequest); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPublicCertificate(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string][]volume.Output{
		"- {certificate: web, source: certificate}":                                    {{Part: volume.PartCert, Path: "web.crt"}},
		"- {certificate: web, source: certificate, mode: '0444', cert: a}":             {{Part: volume.PartCert, Path: "a", Mode: 0o444}},
		"- {certificate: web, source: certificate, cert: a, chain: b, vault: myvault}": {{Part: volume.PartChain, Path: "b"}, {Part: volume.PartCert, Path: "a"}},
	} {
		object := volume.Object{Kind: volume.KindPublicCertificate, Source: "objects[0]", Vault: vaultURL, Name: "web", Outputs: want}
		if diff := cmp.Diff([]volume.Object{object}, mustParse(t, structured(yaml), nil).Objects, sameRequest); diff != "" {
			t.Errorf("%s (-want +got):\n%s", yaml, diff)
		}
	}
	secret := mustParse(t, structured("- {certificate: web, source: secret}"), nil).Objects[0]
	if secret.Kind != volume.KindCertificate || len(secret.Outputs) != 2 {
		t.Errorf("source: secret is not the default: %+v", secret)
	}
}

func TestCertificatesRefused(t *testing.T) {
	t.Parallel()
	const (
		noKey = "does not go with source: certificate, which has no private key"
		noCA  = "does not go with source: certificate, which has the leaf alone and no CAs"
	)
	for yaml, want := range map[string]string{
		"- {certificate: a, pfxPassword: {secret: p}}": "objects[0].pfxPassword: does nothing without pfx, which names the file",
		"- {certificate: a, pfxProfile: legacy, pfx: b}": "objects[0].pfxProfile: does nothing without pfxPassword, " +
			"the vault's own PKCS#12 file is written as it is",
		"- {certificate: a, pfx: b, pfxPassword: planted}": "objects[0].pfxPassword: must be {secret: NAME}, the secret that holds the password, " +
			"and not the password itself",
		"- {certificate: a, pfx: b, pfxPassword: 5}":                           "objects[0].pfxPassword: must be a YAML mapping, not a number",
		"- {certificate: a, pfx: b, pfxPassword: }":                            "objects[0].pfxPassword: must be a YAML mapping, not nothing",
		"- {certificate: a, pfx: b, pfxPassword: [{secret: p}]}":               "objects[0].pfxPassword: must be a YAML mapping, not a list",
		"- {certificate: a, pfx: b, pfxPassword: {}}":                          "objects[0].pfxPassword: says no secret, write {secret: NAME}",
		"- {certificate: a, pfx: b, pfxPassword: {name: p}}":                   "objects[0].pfxPassword.name: unknown field; objects[0].pfxPassword: says no secret, write {secret: NAME}",
		"- {certificate: a, pfx: b, pfxPassword: {secert: p}}":                 "objects[0].pfxPassword.secert: unknown field, did you mean secret?; objects[0].pfxPassword: says no secret, write {secret: NAME}",
		"- {certificate: a, pfx: b, pfxPassword: {secret: p, path: q}}":        "objects[0].pfxPassword.path: unknown field",
		"- {certificate: a, pfx: b, pfxPassword: {secret: p, optional: true}}": "objects[0].pfxPassword.optional: unknown field",
		"- {certificate: a, pfx: b, pfxPassword: {secret: p q}}":               `objects[0].pfxPassword.secret: the name "p q" is not 1 to 127 letters, digits and hyphens`,
		"- {certificate: a, pfx: b, pfxPassword: {secret: p, version: '1'}}":   `objects[0].pfxPassword.version: the version "1" is not 32 hexadecimal digits`,
		"- {certificate: a, pfx: b, pfxPassword: {secret: p, vault: x/y}}": `objects[0].pfxPassword.vault: "x/y" is not a vault, want https://NAME.vault.azure.net or NAME ` +
			`(3 to 24 letters, digits and single hyphens, a letter first)`,
		"- {certificate: a, pfx: b, pfxPassword: {secret: p}, pfxProfile: old}": `objects[0].pfxProfile: "old" must be modern or legacy`,
		"- {certificate: a, pfx: b, pfxpassword: {secret: p}}":                  "objects[0].pfxpassword: unknown field, did you mean pfxPassword?",
		"- {certificate: a, pfx: b, pfxPasword: {secret: p}}":                   "objects[0].pfxPasword: unknown field, did you mean pfxPassword?",
		"- {secret: a, pfxPassword: {secret: p}}":                               "objects[0].pfxPassword: does not go with secret",
		"- {key: a, source: certificate}":                                       "objects[0].source: does not go with key",

		"- {certificate: a, source: certificates}":                     `objects[0].source: "certificates" must be secret or certificate`,
		"- {certificate: a, source: certificate, key: b}":              "objects[0].key: " + noKey,
		"- {certificate: a, source: certificate, pem: b}":              "objects[0].pem: " + noKey,
		"- {certificate: a, source: certificate, keyFormat: sec1}":     "objects[0].keyFormat: " + noKey,
		"- {certificate: a, source: certificate, ca: b}":               "objects[0].ca: " + noCA,
		"- {certificate: a, source: certificate, requireChain: true}":  "objects[0].requireChain: " + noCA,
		"- {certificate: a, source: certificate, requireChain: false}": "objects[0].requireChain: " + noCA,
		"- {certificate: a, source: certificate, pfx: b, pfxPassword: {secret: p}, pfxProfile: legacy}": "objects[0].pfx: " + noKey +
			"; objects[0].pfxPassword: " + noKey + "; objects[0].pfxProfile: " + noKey,
	} {
		t.Run(yaml, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(structured(yaml), nil, volume.Defaults{})
			checkError(t, err, want)
		})
	}
}

// A structured certificate replaces no file, unlike an entry of the attribute certificates.
func TestPublicCertificateReplacesNothing(t *testing.T) {
	t.Parallel()
	attributes := structured("- {certificate: web, source: certificate, cert: certs/a}")
	attributes["certificates"] = "a"
	_, err := volume.Parse(attributes, nil, volume.Defaults{})
	checkError(t, err, `objects[0]: writes "certs/a", which certificates[0] writes already`)
}

// Every vault of a request is one, for the policy and for the client.
func TestVaults(t *testing.T) {
	t.Parallel()
	request := mustParse(t, structured("- {secret: a, vault: bbb}\n- {certificate: c, pfx: d, pfxPassword: {secret: p, vault: aaa}}\n"+
		"- {secret: e}\n- {secrets: {prefix: x}, vault: ccc}\n- {secret: f, vault: aaa}\n- manifest: m"), nil)
	want := []string{"https://bbb.vault.azure.net", vaultURL, "https://aaa.vault.azure.net", "https://ccc.vault.azure.net"}
	if diff := cmp.Diff(want, request.Vaults()); diff != "" {
		t.Error(diff)
	}
}
