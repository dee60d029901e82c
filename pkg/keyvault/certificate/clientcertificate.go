package certificate

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// Unusable says why a client certificate cannot be logged in with, as the end of a sentence about it.
type Unusable string

// Error gives the end of the sentence.
func (u Unusable) Error() string { return string(u) }

const (
	errNotACertificate  Unusable = "is neither PEM nor a readable PKCS#12 file"
	errWrongPassword    Unusable = "cannot be decrypted: the password is wrong or missing" //nolint:gosec // G101: a sentence, no password
	errCertificateNoKey Unusable = "holds no private key"
	errKeyNoCertificate Unusable = "holds no certificate"
	errForeignKey       Unusable = "has a private key that belongs to none of its certificates"
	errNotRSA           Unusable = "has a key that is not RSA, and Entra ID takes no other"
	errUnknownCipher    Unusable = "has a private key that is encrypted in a way which is not read; use PBES2 with PBKDF2 and AES (openssl pkcs8 -topk8)"
	errSlowCertificate  Unusable = "takes too long to decrypt: its key derivations have more than 100,000 iterations together; encrypt it with fewer " +
		"(openssl pkcs12 -export -iter 2048; openssl pkcs8 -topk8 -iter 2048)"
)

// maxSent of a client certificate's chain are kept, to be sent to Entra ID: a login stays, and a file may have hundreds, which
// take ten times as much memory once they are read.
const maxSent = 16

// ParseClient reads PEM (PKCS#8, PKCS#1; encrypted or not) or PKCS#12, and gives the chain from the leaf
// upwards. The SDK's own reader knows neither today's PKCS#12 nor encrypted PEM.
func ParseClient(content, password []byte) ([]*x509.Certificate, crypto.PrivateKey, error) {
	read := readPFX
	if bytes.Contains(content, []byte("-----BEGIN ")) {
		read = readPEM
	}
	key, certs, err := read(content, password)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := key.(*rsa.PrivateKey); !ok {
		return nil, nil, errNotRSA
	}
	wrapped := make([]certificate, 0, len(certs))
	for _, cert := range certs {
		wrapped = append(wrapped, certificate{der: cert.Raw, parsed: cert})
	}
	wrapped, err = leafFirst(privateKey{parsed: key}, wrapped)
	switch {
	case errors.Is(err, errManyCerts):
		return nil, nil, Unusable(err.Error())
	case err != nil:
		return nil, nil, errForeignKey
	}
	order := issued(wrapped)
	order = order[:min(len(order), maxSent)]
	chain := make([]*x509.Certificate, 0, len(order))
	for _, place := range order {
		chain = append(chain, wrapped[place].parsed)
	}
	return chain, key, nil
}

func readPFX(content, password []byte) (crypto.PrivateKey, []*x509.Certificate, error) {
	file, err := openPFX(content, password)
	switch {
	case errors.Is(err, errSlow):
		return nil, nil, errSlowCertificate
	case errors.Is(err, errBigKey):
		return nil, nil, Unusable(err.Error())
	case errors.Is(err, errWrongPassword):
		return nil, nil, errWrongPassword
	case err != nil:
		return nil, nil, errNotACertificate
	}
	key, leaf, others, err := pkcs12.DecodeChain(content, string(password))
	switch {
	case err == nil:
		return key, append([]*x509.Certificate{leaf}, others...), nil
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return nil, nil, errWrongPassword
	case !file.holds(safeBag.isKey):
		return nil, nil, errCertificateNoKey
	case !file.holds(safeBag.isCert):
		return nil, nil, errKeyNoCertificate
	default:
		return nil, nil, errNotACertificate
	}
}

func readPEM(content, password []byte) (key crypto.PrivateKey, certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, errNotACertificate
			}
			if certs = append(certs, cert); len(certs) > maxCerts {
				return nil, nil, Unusable(errManyCerts.Error())
			}
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && key == nil:
			if key, err = readPEMKey(block, password); err != nil {
				return nil, nil, err
			}
		}
	}
	switch {
	case key == nil && len(certs) == 0:
		return nil, nil, errNotACertificate
	case key == nil:
		return nil, nil, errCertificateNoKey
	case len(certs) == 0:
		return nil, nil, errKeyNoCertificate
	}
	return key, certs, nil
}

func readPEMKey(block *pem.Block, password []byte) (crypto.PrivateKey, error) {
	der := block.Bytes
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY":
		der, err = decryptPKCS8(der, password)
	case x509.IsEncryptedPEMBlock(block): //nolint:staticcheck // SA1019: insecure, and what "openssl rsa -aes256" wrote for decades
		if der, err = x509.DecryptPEMBlock(block, password); err != nil { //nolint:staticcheck // as above
			err = errWrongPassword
		}
	}
	if err != nil {
		return nil, err
	}
	if len(der) > maxKeyBytes {
		return nil, Unusable(errBigKey.Error())
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return nil, errNotRSA
	}
	if !bytes.Equal(der, block.Bytes) {
		return nil, errWrongPassword // about one padding in 256 looks right by chance
	}
	return nil, errNotACertificate
}
