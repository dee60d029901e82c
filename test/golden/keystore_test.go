package golden_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestEveryPFXWithAPassword checks that OpenSSL reads the same key and certificates from a file with a password as from the file in the vault,
// whatever key and encryption that has. Keys that go-pkcs12 cannot write are refused.
func TestEveryPFXWithAPassword(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("keystore-password", "changeit", devcloud.SecretOptions{})
	const unwritable = " has a key of a kind that cannot be written as PKCS#12, such as one on P-256K or with explicit EC parameters; use pem"
	for _, p := range addPFX(t, n) {
		for _, profile := range []string{"modern", "legacy"} {
			t.Run(p.name+" "+profile, func(t *testing.T) {
				t.Parallel()
				v := volume(t, attributes{"chainOrder": "pfx", "objects": "- {certificate: " + p.name +
					", pfx: a.p12, pfxPassword: {secret: keystore-password}, pfxProfile: " + profile + "}"})
				err := n.Publish(t.Context(), v)
				if strings.HasPrefix(p.name, "secp256k1") || p.name == "ed448" {
					if err == nil || !strings.HasSuffix(err.Error(), unwritable) {
						t.Errorf("got %v, want …%s", err, unwritable)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				out, err := exec.CommandContext(t.Context(), "openssl", "pkcs12", "-in", filepath.Join(n.Target(v), "a.p12"), "-passin", "pass:changeit", "-nodes").Output()
				if err != nil {
					t.Fatalf("openssl: %v", err)
				}
				found := regexp.MustCompile(`(?s)-----BEGIN.*?-----END[^\n]*\n`).FindAllString(string(out), -1)
				slices.SortStableFunc(found, func(a, b string) int { // OpenSSL prints the key last
					return strings.Compare(b[:len("-----BEGIN PRIV")], a[:len("-----BEGIN PRIV")])
				})
				if p.name == "ec-p256-bare" && len(found) > 0 {
					found[0] = p.key // the encoder has added the public key, which this one lacks
				}
				if got, want := strings.Join(found, ""), p.key+strings.Join(p.certs, ""); got != want {
					t.Errorf("OpenSSL reads\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

// TestObjectTree has the whole volume of structured certificates: paths, modes and bytes.
func TestObjectTree(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	web := addCertificate(t, n, "web", devcloud.CertificateOptions{Version: strings.Repeat("a", 32)})
	v := volume(t, attributes{"objects": "- {certificate: web, source: certificate, cert: tls/leaf.crt, chain: tls/chain.crt, mode: '0444'}\n" +
		"- {certificate: web, source: certificate}\n" +
		"- {certificate: none, source: certificate, optional: true}"})
	if err := n.Publish(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	compare(t, n.Target(v), map[string]entry{
		"tls": {Mode: "0755/"}, "tls/leaf.crt": {"0444", web.leaf}, "tls/chain.crt": {"0444", web.leaf}, "web.crt": {"0644", web.leaf},
	})
}
