package forge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Entangled returns a key, its certificate, and a chain of CAs in which every second one has the same name. The order of
// the n certificates makes a search for an issuer try all others first.
func Entangled(n int) []byte {
	keys := make([]*ecdsa.PrivateKey, n)
	templates := make([]*x509.Certificate, n)
	for i := range n {
		keys[i] = newKey()
		templates[i] = template(i, names(i), i > 0)
	}
	certs := make([][]byte, n)
	for i := range n {
		above := min(i+1, n-1)
		certs[i] = sign(templates[i], templates[above], &keys[i].PublicKey, keys[above])
	}
	slices.Reverse(certs[1:])
	return bundle(keys[0], certs)
}

func names(i int) string {
	switch {
	case i == 0:
		return "leaf"
	case i%2 == 1:
		return "odd"
	default:
		return "even"
	}
}

// Loop returns a key, its certificate, and two CAs that have issued each other.
func Loop() []byte {
	leaf, a, b := newKey(), newKey(), newKey()
	tl, ta, tb := template(1, "leaf", false), template(2, "a", true), template(3, "b", true)
	return bundle(leaf, [][]byte{
		sign(tl, ta, &leaf.PublicKey, a), sign(ta, tb, &a.PublicKey, b), sign(tb, ta, &b.PublicKey, a),
	})
}

// ManyNames returns a key and its certificate for n host names.
func ManyNames(n int) []byte {
	key, t := newKey(), template(1, "leaf", false)
	for i := range n {
		t.DNSNames = append(t.DNSNames, fmt.Sprintf("host-%d.example.com", i))
	}
	return bundle(key, [][]byte{sign(t, t, &key.PublicKey, key)})
}

// HugeIssuer returns a key, its certificate, and a CA as its issuer whose RSA key has so many bits that verifying one
// signature takes minutes. The signature is invalid.
func HugeIssuer(bits int) []byte {
	leaf, ca := newKey(), newKey()
	modulus := odd(bits)
	tl, tc := template(1, "leaf", false), template(2, "ca", true)
	above := sign(tc, tc, &rsa.PublicKey{N: modulus, E: 1<<31 - 1}, ca)
	below := resign(sign(tl, tc, &leaf.PublicKey, ca), bits/8)
	return bundle(leaf, [][]byte{below, above})
}

// HugeKey returns an RSA key with this number of bits and its certificate. The factors are not prime but otherwise valid.
func HugeKey(bits int) []byte {
	const e = 65537
	one := big.NewInt(1)
	p, q := coprime(bits/2, big.NewInt(e)), big.NewInt(0)
	for q.Sign() == 0 || new(big.Int).GCD(nil, nil, p, q).Cmp(one) != 0 {
		q = coprime(bits/2, big.NewInt(e))
	}
	n := new(big.Int).Mul(p, q)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	d := new(big.Int).ModInverse(big.NewInt(e), new(big.Int).Mul(p1, q1))
	key := der(struct {
		Version             int
		N                   *big.Int
		E                   int
		D, P, Q, Dp, Dq, Qi *big.Int
	}{0, n, e, d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), new(big.Int).ModInverse(q, p)})
	ca, t := newKey(), template(1, "leaf", false)
	cert := sign(t, template(2, "ca", true), &rsa.PublicKey{N: n, E: e}, ca)
	return append(block("RSA PRIVATE KEY", key), block("CERTIFICATE", cert)...)
}

// odd returns a random odd number with this number of bits.
func odd(bits int) *big.Int {
	b := make([]byte, bits/8)
	_, _ = rand.Read(b)
	b[0] |= 0xc0
	b[len(b)-1] |= 1
	return new(big.Int).SetBytes(b)
}

// coprime returns an odd number n for which n-1 is coprime to e.
func coprime(bits int, e *big.Int) *big.Int {
	one := big.NewInt(1)
	for {
		n := odd(bits)
		if new(big.Int).GCD(nil, nil, new(big.Int).Sub(n, one), e).Cmp(one) == 0 {
			return n
		}
	}
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func template(serial int, name string, ca bool) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(int64(serial + 1)), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_500_000_000, 0),
	}
}

func sign(t, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) []byte {
	cert, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		panic(err)
	}
	return cert
}

// resign replaces the signature of a certificate by random bytes, with the algorithm RSA with SHA-256.
func resign(cert []byte, size int) []byte {
	algorithm := asn1.RawValue{FullBytes: der(pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue,
	})}
	var whole struct {
		Signed    []asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert, &whole); err != nil {
		panic(err)
	}
	const signatureField = 2 // after version and serial number
	whole.Signed[signatureField] = algorithm
	whole.Algorithm = algorithm
	signature := make([]byte, size)
	_, _ = rand.Read(signature[1:])
	whole.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * size}
	return der(whole)
}

func bundle(key *ecdsa.PrivateKey, certs [][]byte) []byte {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	out := block("PRIVATE KEY", pkcs8)
	for _, cert := range certs {
		out = append(out, block("CERTIFICATE", cert)...)
	}
	return out
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
