package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/forge"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// alike is a key and its certificate among n CAs. All have one name and keys of the slowest curve. None has issued
// another.
func alike(b *testing.B, n int) []byte {
	b.Helper()
	must := func(der []byte, err error) []byte {
		if err != nil {
			b.Fatal(err)
		}
		return der
	}
	var content []byte
	for i := range n {
		key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		t := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_500_000_000, 0),
		}
		issuer := *t
		if i == 0 {
			t.Subject.CommonName = "leaf"
			content = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
		}
		der := must(x509.CreateCertificate(rand.Reader, t, &issuer, key.Public(), key))
		content = append(content, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return content
}

// BenchmarkDecoding measures ordinary files, the slowest that are accepted, and those that are refused after the work.
func BenchmarkDecoding(b *testing.B) {
	ordinary, err := os.ReadFile("testdata/pfx/rsa-2048.pfx")
	if err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		split   func([]byte) (*Bundle, error)
		content []byte
	}{
		{"PFX of OpenSSL", splitPFX, ordinary},
		{"PFX, 30,000 iterations as of Java", splitPFX, forge.PFX{MAC: 10_000, Outer: 10_000, Inner: 10_000}.DER()},
		{"PFX, 100,000 iterations, AES", splitPFX, forge.PFX{Outer: maxIterations - 1, Inner: 1}.DER()},
		{"PFX, 100,000 iterations, RC2", splitPFX, forge.PFX{Outer: maxIterations - 1, Inner: 1, RC2: 128}.DER()},
		{"PFX, 100,000 iterations, MAC", splitPFX, forge.PFX{MAC: maxIterations - 2, Outer: 1, Inner: 1}.DER()},
		{"PFX, 100,000 iterations, PBMAC1", splitPFX, forge.PFX{PBMAC1: maxIterations/4 - 1, Outer: 1, Inner: 1}.DER()},
		{"PFX, one iteration more", splitPFX, forge.PFX{MAC: maxIterations + 1, Outer: 1, Inner: 1}.DER()},
		{"PEM, 25 KB of CAs", splitPEM, alike(b, 27)},
		{"PEM, 256 CAs", splitPEM, alike(b, maxCerts)},
		{"PEM, issuer of 16,384 bits", splitPEM, forge.HugeIssuer(16 << 10)},
		{"PEM, key of 16,384 bits", splitPEM, forge.HugeKey(16 << 10)},
		{"PEM, 700 host names", splitPEM, forge.ManyNames(700)},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportMetric(float64(len(test.content)), "content-B")
			for b.Loop() {
				_, _ = test.split(test.content)
			}
		})
	}
}

// BenchmarkProtect is the time that a PKCS#12 file with a password takes when it is made.
func BenchmarkProtect(b *testing.B) {
	content, err := os.ReadFile("testdata/pfx/3des.pfx")
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := splitPFX(content)
	if err != nil {
		b.Fatal(err)
	}
	for _, profile := range []volume.PFXProfile{volume.PFXModern, volume.PFXLegacy} {
		for name, password := range map[string]string{"short": "changeit", "longest": strings.Repeat("x", maxPassword)} {
			b.Run(string(profile)+", "+name+" password", func(b *testing.B) {
				p := Protection{Password: volume.NewSecret([]byte(password)), Profile: profile, Alias: "web"}
				for b.Loop() {
					if _, err := bundle.encodeProtected(volume.ChainOrderChain, p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
