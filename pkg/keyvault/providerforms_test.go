package keyvault_test

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What the Azure provider of the Secrets Store CSI Driver writes for a secret depends on what the vault answers.
func TestPEMOrValue(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	pfx, err := w.vault.SetCertificate("pfx", devcloud.CertificateOptions{Intermediates: 1})
	w.must(err)
	public, err := w.vault.SetCertificate("public", devcloud.CertificateOptions{Intermediates: 1, NotExportable: true})
	w.must(err)
	stored := string(read(t, "certificate/testdata/pem/secp256k1-explicit.pem")) + "# any text, as it was stored"
	kid := "https://shop.vault.azure.net/keys/x"
	w.vault.SetSecret("pem", stored, devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: kid})
	w.vault.SetSecret("plain", "hunter2", devcloud.SecretOptions{})
	w.vault.SetSecret("imported", "MIID", devcloud.SecretOptions{ContentType: devcloud.PKCS12}) // backs no certificate of the vault
	w.vault.SetSecret("base64", "aHVudGVyMg==", devcloud.SecretOptions{})
	about := func(name string) string { return `objects[0]: secret "` + name + `" of https://shop.vault.azure.net` }
	for name, test := range map[string]struct {
		secret   string
		encoding volume.Encoding
		want     string
		fails    string
	}{
		"PKCS#12":               {"pfx", volume.UTF8, keyPEM(t, pfx) + chainPEM(pfx), ""},
		"key not exportable":    {"public", "", chainPEM(public), ""},
		"PEM as it is":          {"pem", "", stored, ""},
		"plain":                 {"plain", "", "hunter2", ""},
		"decoded":               {"base64", volume.Base64, "hunter2", ""},
		"no certificate":        {"imported", "", "MIID", ""},
		"PKCS#12, but decoded":  {"pfx", volume.Base64, "", about("pfx") + " backs a certificate, which is written as PEM and is not base64; leave the encoding out, or ask for its PFX (objectFormat: pfx)"},
		"PEM, but decoded":      {"pem", volume.Base64, "", about("pem") + " is not base64; correct the value or the encoding"},
		"plain and not encoded": {"plain", volume.Hex, "", about("plain") + " is not hex; correct the value or the encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			object := secret(test.secret)
			object.Source, object.Encoding, object.ChainOrder = "objects[0]", test.encoding, volume.ChainOrderKeyID
			object.Outputs = []volume.Output{{Part: volume.PartPEMOrValue, Path: "file"}}
			content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(object))
			if err != nil || test.fails != "" {
				if err == nil || err.Error() != test.fails {
					t.Errorf("error %v\nwant  %s", err, test.fails)
				}
				return
			}
			if got := string(content.Files[0].Data.Reveal()); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// The provider writes separate files with blocks of the PEM that it writes: of PKCS#12 in the order of the chain, of PEM as it is stored.
func TestBlocks(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	pfx, err := w.vault.SetCertificate("pfx", devcloud.CertificateOptions{Intermediates: 1})
	w.must(err)
	public, err := w.vault.SetCertificate("public", devcloud.CertificateOptions{NotExportable: true})
	w.must(err)
	rootFirst := certPEM(pfx.CAs[1]) + certPEM(pfx.Leaf)
	kid := "https://shop.vault.azure.net/keys/x"
	w.vault.SetSecret("pem", "Bag Attributes\r\n"+rootFirst+keyPEM(t, pfx), devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: kid})
	w.vault.SetSecret("text", "anything", devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: kid})
	w.vault.SetSecret("plain", rootFirst, devcloud.SecretOptions{ContentType: devcloud.PEMFile}) // backs no certificate
	for name, test := range map[string]struct {
		secret string
		part   volume.Part // of the file itself
		want   []string    // certificates, other blocks
	}{
		"PKCS#12":              {"pfx", volume.PartPEMOrValue, []string{chainPEM(pfx), keyPEM(t, pfx)}},
		"key not exportable":   {"public", volume.PartPEMOrValue, []string{chainPEM(public), ""}},
		"PKCS#12 as it is":     {"pfx", volume.PartValue, []string{"", ""}},
		"PEM":                  {"pem", volume.PartPEMOrValue, []string{rootFirst, keyPEM(t, pfx)}},
		"PEM as it is":         {"pem", volume.PartValue, []string{rootFirst, keyPEM(t, pfx)}},
		"no PEM":               {"text", volume.PartPEMOrValue, []string{"", ""}},
		"backs no certificate": {"plain", volume.PartPEMOrValue, nil},
	} {
		t.Run(name, func(t *testing.T) {
			object := secret(test.secret)
			object.ChainOrder = volume.ChainOrderKeyID
			object.Outputs = []volume.Output{{Part: test.part, Path: "z"}}
			object.Split = []volume.Output{{Part: volume.PartCertBlocks, Path: "a"}, {Part: volume.PartOtherBlocks, Path: "b"}}
			content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(object))
			w.must(err)
			var got []string
			for _, file := range content.Files[:len(content.Files)-1] {
				got = append(got, string(file.Data.Reveal()))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}

func keyPEM(t *testing.T, c *devcloud.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func chainPEM(c *devcloud.Certificate) string {
	var text strings.Builder
	for _, cert := range append([]*x509.Certificate{c.Leaf}, c.CAs...) {
		text.WriteString(certPEM(cert))
	}
	return text.String()
}

func certPEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// The content names the version that was read for every kind of object, and none for objects without an ID.
func TestVersionsAreTold(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	id := func(digit string) string { return strings.Repeat(digit, 32) }
	w.vault.SetSecret("s", "x", devcloud.SecretOptions{Version: id("1")})
	w.vault.SetSecret("s", "y", devcloud.SecretOptions{Version: id("2")})
	_, err := w.vault.SetCertificate("c", devcloud.CertificateOptions{Version: id("3")})
	w.must(err)
	_, err = w.vault.SetKey("k", devcloud.KeyOptions{Version: id("4")})
	w.must(err)
	object := func(kind volume.Kind, name, version string, part volume.Part) volume.Object {
		o := secret(name)
		o.Kind, o.Version, o.ID = kind, version, string(kind)+" "+name+version
		o.Outputs = []volume.Output{{Part: part, Path: o.ID}}
		return o
	}
	silent := secret("s")
	content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(
		object(volume.KindSecret, "s", "", volume.PartValue), silent, object(volume.KindSecret, "s", id("1"), volume.PartValue),
		object(volume.KindPublicCertificate, "c", "", volume.PartCert), object(volume.KindCertificate, "c", "", volume.PartCert),
		object(volume.KindKey, "k", "", volume.PartPublicKey),
	))
	w.must(err)
	var got []string
	for _, v := range content.Versions {
		got = append(got, v.ID+" = "+v.Version[:1]+" in "+strings.Join(v.Paths, ","))
	}
	want := "secret s = 2 in secret s; secret s" + id("1") + " = 1 in secret s" + id("1") +
		"; public certificate c = 3 in public certificate c; certificate c = 3 in certificate c; key k = 4 in key k"
	if got := strings.Join(got, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
