package keyvault_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/forge"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// openssl made the files of certificate/testdata/login; make.sh there has the commands.
const certificatePassword = "the password"

func loginFile(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("certificate/testdata/login", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func firstCertificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	for block, rest := pem.Decode(loginFile(t, name)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	t.Fatalf("%s holds no certificate", name)
	return nil
}

func byCertificate(content []byte, password string) volume.Request {
	return request(volume.Identity{
		Kind: volume.ServicePrincipal, ClientID: clientID,
		ClientCertificate: volume.NewSecret(content), ClientCertificatePassword: volume.NewSecret([]byte(password)),
	}, []volume.Object{secret("a")})
}

// TestClientCertificate logs in with each form of one certificate, and with invalid ones.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	const says = asSP + "nodePublishSecretRef[clientcertificate] "
	for name, want := range map[string]string{ // the error; empty: it works
		"plain.pem": "", "leaf-last.pem": "", "pkcs1.pem": "", "plain.pfx": "",
		"aes256-password.pem": "", "aes128-password.pem": "", "des3-password.pem": "",
		"modern-password.pfx": "", "legacy-password.pfx": "",
		"traditional-password.pem": says + "has a private key that is encrypted in a way which is not read; use PBES2 with PBKDF2 and AES (openssl pkcs8 -topk8)",
		"scrypt-password.pem":      says + "has a private key that is encrypted in a way which is not read; use PBES2 with PBKDF2 and AES (openssl pkcs8 -topk8)",
		"slow-password.pem": says + "takes too long to decrypt: its key derivations have more than 100,000 iterations together; encrypt it with fewer " +
			"(openssl pkcs12 -export -iter 2048; openssl pkcs8 -topk8 -iter 2048)",
		"no-key.pem":         says + "holds no private key",
		"no-key.pfx":         says + "holds no private key",
		"no-certificate.pem": says + "holds no certificate",
		"foreign.pem":        says + "has a private key that belongs to none of its certificates",
		"ec.pem":             says + "has a key that is not RSA, and Entra ID takes no other",
		"make.sh":            says + "is neither PEM nor a readable PKCS#12 file",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID, Certificates: []*x509.Certificate{firstCertificate(t, "plain.pem")}}))
			password := ""
			if strings.Contains(name, "password") || name == "no-key.pfx" {
				password = certificatePassword
			}
			r := byCertificate(loginFile(t, name), password)
			if want != "" {
				w.fails(r, volume.ErrInvalid, want)
				return
			}
			if got := w.fetch(r)["a"]; got != "value of a" {
				t.Errorf("got %q", got)
			}
			if password == "" {
				return
			}
			// A successful login does not help a caller that has the certificate without its password.
			for _, wrong := range []string{"", "another password"} {
				w.fails(byCertificate(loginFile(t, name), wrong), volume.ErrInvalid, says+"cannot be decrypted: the password is wrong or missing")
			}
		})
	}
}

// Iterations in an encrypted part count too, for a caller that has the password.
func TestClientCertificateThatHidesItsIterations(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	content := forge.PFX{PBMAC1: 1, Outer: 1, Inner: 1 << 31, Password: certificatePassword}.DER()
	const says = asSP + "nodePublishSecretRef[clientcertificate] "
	w.fails(byCertificate(content, certificatePassword), volume.ErrInvalid,
		says+"takes too long to decrypt: its key derivations have more than 100,000 iterations together; encrypt it with fewer "+
			"(openssl pkcs12 -export -iter 2048; openssl pkcs8 -topk8 -iter 2048)")
	w.fails(byCertificate(content, "another"), volume.ErrInvalid, says+"cannot be decrypted: the password is wrong or missing")
	few := forge.PFX{PBMAC1: 1, Outer: 1, Inner: 1, Password: certificatePassword}.DER()
	w.fails(byCertificate(few, certificatePassword), volume.ErrInvalid, says+"cannot be decrypted: the password is wrong or missing") // random bytes as its key
}

// The chain is sent, for applications that accept a subject and root instead of one certificate.
func TestClientCertificateByName(t *testing.T) {
	t.Parallel()
	for name, trusted := range map[string]string{"trusted": "login.example.com", "another name": "other.example.com"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID, TrustedNames: []devcloud.TrustedName{
				{CommonName: trusted, Roots: []*x509.Certificate{firstCertificate(t, "root.pem")}},
			}}))
			r := byCertificate(loginFile(t, "leaf-last.pem"), "")
			if name == "trusted" {
				w.fetch(r)
				return
			}
			w.fails(r, volume.ErrUnauthenticated, asSP+"Entra ID answered HTTP 401 invalid_client, AADSTS700027: the client certificate is not one of "+
				"the application's, or has expired; upload it to the application, or put the right one into the Secret of nodePublishSecretRef")
		})
	}
}
