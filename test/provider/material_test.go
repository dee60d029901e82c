package provider_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// material is keys and certificates that are made in the run.
type material struct {
	keys map[string]crypto.Signer // by type and size

	// certs are two chains by letter: the leaf L (RSA), the intermediate I and the root R; the leaf E (EC) and its root S.
	certs         map[rune]*x509.Certificate
	rsaKey, ecKey crypto.Signer // of L and E
}

func newMaterial(t *testing.T) *material {
	t.Helper()
	m := &material{keys: map[string]crypto.Signer{}, certs: map[rune]*x509.Certificate{}}
	for name, bits := range map[string]int{"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		must(t, err)
		m.keys[name] = key
	}
	for name, curve := range map[string]elliptic.Curve{"p-256": elliptic.P256(), "p-384": elliptic.P384(), "p-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(t, err)
		m.keys[name] = key
	}
	m.rsaKey, m.ecKey = m.keys["rsa-2048"], m.keys["p-256"]
	root, rootKey := m.issue(t, "root", nil, nil, nil)
	intermediate, intermediateKey := m.issue(t, "intermediate", nil, root, rootKey)
	leaf, _ := m.issue(t, "leaf", m.rsaKey, intermediate, intermediateKey)
	other, otherKey := m.issue(t, "other root", nil, nil, nil)
	otherLeaf, _ := m.issue(t, "other leaf", m.ecKey, other, otherKey)
	m.certs = map[rune]*x509.Certificate{'R': root, 'I': intermediate, 'L': leaf, 'S': other, 'E': otherLeaf}
	return m
}

// issue issues a certificate: of a CA if it has no key, and of a root if it has no parent.
func (m *material) issue(t *testing.T, name string, key crypto.Signer, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(random(8)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
	}
	if key == nil {
		authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		key, template.IsCA = authority, true
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

// pfx is a PKCS#12 file with certificates in the order of their letters.
func (m *material) pfx(t *testing.T, encoder *pkcs12.Encoder, key crypto.Signer, letters string) []byte {
	t.Helper()
	certs := m.lettered(letters)
	der, err := encoder.Encode(key, certs[0], certs[1:], "")
	must(t, err)
	return der
}

// chain is the PEM of certificates in the order of their letters.
func (m *material) chain(letters string) string { return certPEMs(m.lettered(letters)...) }

// lettered are certificates by their letters.
func (m *material) lettered(letters string) (certs []*x509.Certificate) {
	for _, letter := range letters {
		certs = append(certs, m.certs[letter])
	}
	return certs
}

// keyPEM, certPEMs and publicPEM are the provider's forms.
func keyPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return blockPEM("PRIVATE KEY", der)
}

func certPEMs(certs ...*x509.Certificate) string {
	var text strings.Builder
	for _, cert := range certs {
		text.WriteString(blockPEM("CERTIFICATE", cert.Raw))
	}
	return text.String()
}

func publicPEM(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	must(t, err)
	return blockPEM("PUBLIC KEY", der)
}

func blockPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.Read(data) // never fails
	return data
}

// value is a random text.
func value() string { return hex.EncodeToString(random(16)) }

func hash(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:8] }
