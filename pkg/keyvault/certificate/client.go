package certificate

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"errors"
)

// Unusable is why a client certificate cannot be used to log in, as the end of a sentence about it.
type Unusable string

// Error returns the end of the sentence.
func (u Unusable) Error() string { return string(u) }

const (
	errNotACertificate  Unusable = "is neither PEM nor a readable PKCS#12 file"
	errWrongPassword    Unusable = "cannot be decrypted: the password is wrong or missing" //nolint:gosec // G101: a sentence, no password
	errCertificateNoKey Unusable = "holds no private key"
	errForeignKey       Unusable = "has a private key that belongs to none of its certificates"
	errNotRSA           Unusable = "has a key that is not RSA, and Entra ID takes no other"
	errUnknownCipher    Unusable = "has a private key that is encrypted in a way which is not read; use PBES2 with PBKDF2 and AES (openssl pkcs8 -topk8)"
	errSlowCertificate  Unusable = "takes too long to decrypt: its key derivations have more than 100,000 iterations together; encrypt it with fewer " +
		"(openssl pkcs12 -export -iter 2048; openssl pkcs8 -topk8 -iter 2048)"
	errFIPSCertificate Unusable = "is encrypted in a way that FIPS 140-3 does not allow (SHA-1, 3DES, RC2, or PBKDF2 with a salt of less than 16 bytes), " +
		"and this build runs in FIPS mode (GODEBUG=fips140=only); store it as PEM without a password"
	errFIPSShortKey Unusable = "has an RSA key that FIPS 140-3 does not allow (less than 2048 bits), and this build runs in FIPS mode (GODEBUG=fips140=only); " +
		"use one of 2048 bits or more"
)

// maxSent bounds the chain of a client certificate. A login keeps it parsed, and a file may have hundreds of
// certificates.
const maxSent = 16

// ParseClient reads a client certificate from PEM or PKCS#12, with the password of its key if there is one. It
// returns the chain from the leaf upwards and the key. The error is an [Unusable].
func ParseClient(content, password []byte) ([]*x509.Certificate, crypto.PrivateKey, error) {
	read := readPFX
	if bytes.Contains(content, []byte("-----BEGIN ")) {
		read = readPEM
	}
	found, err := read(content, password)
	if err != nil {
		return nil, nil, unusable(err)
	}
	if found.key == nil {
		return nil, nil, errCertificateNoKey
	}
	if found.key.parsed == nil && found.key.public() != nil { // an EC key with explicit parameters, or on P-256K
		return nil, nil, errNotRSA
	}
	if found.opaque || found.key.parsed == nil {
		return nil, nil, errNotACertificate
	}
	key, ok := found.key.parsed.(*rsa.PrivateKey)
	switch {
	case !ok:
		return nil, nil, errNotRSA
	case fips140.Enforced() && key.N.BitLen() < 2048:
		return nil, nil, errFIPSShortKey
	}
	for _, cert := range found.certs {
		if cert.parsed == nil {
			return nil, nil, errNotACertificate
		}
	}
	if _, err := found.leafFirst(); err != nil {
		return nil, nil, errForeignKey
	}
	var chain []*x509.Certificate
	order, _ := issued(found.certs)
	for _, index := range order {
		if len(chain) < maxSent {
			chain = append(chain, found.certs[index].parsed)
		}
	}
	return chain, found.key.parsed, nil
}

// unusable translates an error of a file to one of a client certificate.
func unusable(err error) Unusable {
	var damaged *Damaged
	switch {
	case errors.As(err, &damaged):
		return Unusable(damaged.Error() + "; store the complete file again")
	case errors.Is(err, ErrNoKey):
		return errCertificateNoKey
	case errors.Is(err, errSlow):
		return errSlowCertificate
	case errors.Is(err, errFIPS):
		return errFIPSCertificate
	case errors.Is(err, errEncryptedKey):
		return errWrongPassword
	case errors.Is(err, errNoCert), errors.Is(err, errManyCerts), errors.Is(err, errBigKey),
		errors.Is(err, errWrongPassword), errors.Is(err, errUnknownCipher):
		return Unusable(err.Error())
	default:
		return errNotACertificate
	}
}
