package keyvault_test

import (
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// protected requests the PKCS#12 file of a certificate with a password, and nothing else of it.
func protected(name, password string) volume.Object {
	o := secret(name)
	o.Kind, o.Source, o.PFXProfile = volume.KindCertificate, "objects[0]", volume.PFXModern
	o.Outputs = []volume.Output{{Part: volume.PartPFX, Path: name + ".p12"}}
	o.Password = &volume.Object{Kind: volume.KindSecret, Source: "objects[0].pfxPassword", Vault: o.Vault, Name: password}
	return o
}

func (w *fixture) certificate(name string, o devcloud.CertificateOptions) {
	w.t.Helper()
	_, err := w.vault.SetCertificate(name, o)
	w.must(err)
}

func decodes(t *testing.T, pfx, password string) {
	t.Helper()
	if _, _, _, err := pkcs12.DecodeChain([]byte(pfx), password); err != nil {
		t.Errorf("with %q: %v", password, err)
	}
}

// A file with a password is the same at each refresh, and another when the password or the certificate is. The password is
// read once with the value that the volume has of it.
func TestProtectedPFX(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.certificate("web", devcloud.CertificateOptions{})
	w.certificate("pem", devcloud.CertificateOptions{ContentType: devcloud.PEMFile})
	w.vault.SetSecret("p", "first\n", devcloud.SecretOptions{})
	r := w.asServicePrincipal(protected("web", "p"), protected("pem", "p"), secret("p"))
	r.Volume, r.RotationInterval = "v", time.Minute
	first := w.fetch(r)
	decodes(t, first["web.p12"], "first")
	decodes(t, first["pem.p12"], "first")
	if first["p"] != "first\n" {
		t.Errorf("the secret itself is %q", first["p"])
	}
	if got := w.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200}); got != 3 {
		t.Errorf("%d secrets were read, want 3", got)
	}
	refresh := func() map[string]string {
		w.later(2 * time.Minute)
		r.Refresh = true
		return w.fetch(r)
	}
	if next := refresh(); next["web.p12"] != first["web.p12"] || next["pem.p12"] != first["pem.p12"] {
		t.Error("a refresh changes the files")
	}
	w.vault.SetSecret("p", "second", devcloud.SecretOptions{})
	second := refresh()
	decodes(t, second["web.p12"], "second")
	if second["web.p12"] == first["web.p12"] || second["p"] != "second" {
		t.Error("the password has changed and the file has not")
	}
	w.certificate("web", devcloud.CertificateOptions{})
	if third := refresh(); third["web.p12"] == second["web.p12"] || third["pem.p12"] != second["pem.p12"] {
		t.Error("not exactly the file of the new certificate has changed")
	}
}

func TestProtectedPFXRefused(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.certificate("web", devcloud.CertificateOptions{})
	w.certificate("hsm", devcloud.CertificateOptions{NotExportable: true})
	for name, value := range map[string]string{"p": "planted", "empty": "\n", "lines": "planted\nvalue", "emoji": "planted\U0001f511"} {
		w.vault.SetSecret(name, value, devcloud.SecretOptions{})
	}
	w.vault.SetSecret("off", "planted", devcloud.SecretOptions{Disabled: true})
	const password = `objects[0].pfxPassword: secret `
	for name, test := range map[string]struct {
		object   volume.Object
		sentinel error
		want     string
	}{
		"no password": {protected("web", "none"), volume.ErrNotFound, password + `"none" of https://shop.vault.azure.net as servicePrincipal ` + clientID +
			`: HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted`},
		"a disabled password": {protected("web", "off"), volume.ErrPrecondition, password + `"off" of https://shop.vault.azure.net as servicePrincipal ` + clientID +
			`: HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or mark the object optional`},
		"an empty password": {protected("web", "empty"), volume.ErrPrecondition, password + `"empty" of https://shop.vault.azure.net ` +
			`is empty, which is no password; set one, or leave pfxPassword out for the vault's own PKCS#12 file`},
		"two lines": {protected("web", "lines"), volume.ErrPrecondition, password + `"lines" of https://shop.vault.azure.net ` +
			`holds a control character, such as a line end before its last, and cannot be the password of a PKCS#12 file; store the password alone`},
		"above the BMP": {protected("web", "emoji"), volume.ErrPrecondition, password + `"emoji" of https://shop.vault.azure.net ` +
			`holds a character above U+FFFF, which the password of a PKCS#12 file cannot have; store another`},
		"no key": {protected("hsm", "p"), volume.ErrPrecondition, `objects[0]: certificate "hsm" of https://shop.vault.azure.net ` +
			`holds no private key: the certificate's key is not exportable; make it exportable, or ask for its chain, cert or ca alone (attribute objects)`},
		"no certificate": {protected("p", "p"), volume.ErrPrecondition, `objects[0]: certificate "p" of https://shop.vault.azure.net ` +
			`holds no certificate: its content type is neither application/x-pkcs12 nor application/x-pem-file`},
	} {
		t.Run(name, func(t *testing.T) {
			w.fails(w.asServicePrincipal(test.object), test.sentinel, test.want)
		})
	}
}

// An optional certificate that is absent needs no password. One that is there does.
func TestProtectedPFXOptional(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	optional := protected("web", "p")
	optional.Optional, optional.Password.Optional = true, true
	if files := w.fetch(w.asServicePrincipal(optional)); len(files) != 0 {
		t.Errorf("files %v", files)
	}
	w.certificate("web", devcloud.CertificateOptions{})
	w.later(time.Minute)
	w.fails(w.asServicePrincipal(optional), volume.ErrNotFound, `objects[0].pfxPassword: secret "p" of https://shop.vault.azure.net: `+
		`the certificate is there and its password is not, or is disabled; create or enable it`)
	w.vault.SetSecret("p", "x", devcloud.SecretOptions{})
	w.later(time.Minute)
	decodes(t, w.fetch(w.asServicePrincipal(optional))["web.p12"], "x")
}

// The file counts against the limits of a volume.
func TestProtectedPFXLimits(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.certificate("web", devcloud.CertificateOptions{})
	w.vault.SetSecret("p", "x", devcloud.SecretOptions{})
	r := w.asServicePrincipal(protected("web", "p"))
	r.Limits = volume.Limits{Bytes: 1000, Files: 1}
	w.fails(r, volume.ErrTooLarge, "the volume's content is over the limit of 1000 bytes (--max-volume-bytes); ask for fewer or smaller objects")
	r.Limits.Bytes = 10_000
	if files := w.fetch(r); len(files) != 1 || strings.Contains(files["web.p12"], "BEGIN") {
		t.Errorf("%d files", len(files))
	}
}

// The vault of a password is checked as that of an object is.
func TestPasswordOfAForeignVault(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	o := protected("web", "p")
	o.Password.Vault = "https://shop.example.com"
	w.fails(w.asServicePrincipal(o), volume.ErrInvalid, `objects[0].pfxPassword: "https://shop.example.com" is not a vault of the cloud AzurePublicCloud`)
}
