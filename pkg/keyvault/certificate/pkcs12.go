package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

var (
	errBrokenPFX = errors.New("is not a readable PKCS#12 file without a password")
	errSlow      = fmt.Errorf("takes too long to decode: its key derivations have more than %s iterations together; "+
		"export it with fewer (openssl pkcs12 -export -iter 2048), or use the content type "+contentPEM, thousands(maxIterations))
	errBigKey = fmt.Errorf("holds a private key of more than %d KiB, which is not read", maxKeyBytes>>10)
)

// thousands writes a number for reading.
func thousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }

// splitPFX reads a PKCS#12 file (RFC 7292) with an empty password, in either of the two forms that this has.
func splitPFX(content []byte) (*Bundle, error) {
	file, err := openPFX(content, nil)
	switch {
	case errors.Is(err, errSlow), errors.Is(err, errBigKey):
		return nil, err
	case err != nil:
		return nil, errBrokenPFX
	}
	key, first, others, err := pkcs12.DecodeChain(content, "")
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, errBrokenPFX
	case err != nil:
		return file.splitUnknown(err)
	}
	b := &Bundle{pfx: content, key: privateKey{parsed: key}}
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		// Java and others write an EC key without a copy of its public half. Go would add one, OpenSSL does not.
		if bags, err := file.bundle(); err == nil && bags.opaque == nil {
			return bags, nil
		}
	}
	certs := make([]certificate, 0, 1+len(others))
	for _, cert := range append([]*x509.Certificate{first}, others...) {
		certs = append(certs, certificate{der: cert.Raw, parsed: cert})
	}
	err = b.settle(certs)
	return b, err
}

// splitUnknown reads a file at which the library gave up: for what it holds, or perhaps only because Go knows no such key
// or certificate. The library's errors about that have no values, so the bags decide.
func (f *pfxFile) splitUnknown(refused error) (*Bundle, error) {
	b, err := f.bundle()
	_, unknown := errors.AsType[pkcs12.NotImplementedError](refused)
	switch {
	case errors.Is(err, errNotDER), errors.Is(err, errBrokenPEM), err == nil && b.opaque != nil && unknown:
		return nil, errBrokenPFX
	default:
		return b, err
	}
}

// encodePFX makes a PKCS#12 file with an empty password, of the algorithms that OpenSSL 3 uses. Its salts come from
// the content: the same certificate gives the same bytes, or else each refresh would look like a rotation. Nothing
// depends on their being random, for an empty password protects nothing.
func encodePFX(key privateKey, chain []certificate) ([]byte, error) {
	seed := sha256.New()
	var certs []*x509.Certificate
	for _, cert := range chain {
		seed.Write(cert.der)
		certs = append(certs, &x509.Certificate{Raw: cert.der}) // no more of it is looked at
	}
	parsed, err := newPrivateKey(key.block)
	if err != nil || parsed.parsed == nil {
		return nil, errors.New("has a key of a kind that cannot be written as PKCS#12")
	}
	der, err := x509.MarshalPKCS8PrivateKey(parsed.parsed)
	if err != nil {
		return nil, errors.New("has a key of a kind that cannot be written as PKCS#12")
	}
	seed.Write(der)
	const salts = 1024 // bytes; the encoder takes 80
	random, err := hkdf.Key(sha256.New, seed.Sum(nil), nil, "keyvault-csi pfx", salts)
	if err != nil {
		return nil, err
	}
	return pkcs12.Modern2023.WithRand(bytes.NewReader(random)).Encode(parsed.parsed, certs[0], certs[1:], "")
}
