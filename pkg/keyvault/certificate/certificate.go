package certificate

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"mime"
	"strings"
)

// The content types of a secret that holds a certificate with its key.
// https://learn.microsoft.com/azure/key-vault/certificates/about-certificates
const (
	contentPFX = "application/x-pkcs12"
	contentPEM = "application/x-pem-file"
)

// The ways in which the content of a certificate cannot be used; each is the end of a sentence.
var (
	errNoKey        = errors.New("holds no private key: the certificate's key is not exportable; make it exportable, or ask for the public certificate")
	errNoCert       = errors.New("holds no certificate")
	errManyCerts    = fmt.Errorf("holds more than %d certificates", maxCerts)
	errManyKeys     = errors.New("holds several private keys")
	errEncryptedKey = errors.New("holds an encrypted private key; store it without a password")
	errBrokenPEM    = errors.New("is not readable PEM")
	errNoLeaf       = errors.New("holds no certificate that belongs to its private key")
	errOpaque       = errors.New("holds a key or a certificate that is not read here (such as a certificate that is not DER); issue it with the content type " +
		contentPEM + ", or ask for its PFX alone")
)

// Split takes apart the value of a certificate's secret, as the vault gives it: PEM, or the base64 text of PKCS#12, by its
// content type.
func Split(contentType string, value []byte) (*Bundle, error) {
	switch mediaType(contentType) {
	case contentPEM:
		return splitPEM(value)
	case contentPFX:
		// White space may be anywhere, as in the base64 modules of Python and az.
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(value)), ""))
		if err != nil {
			return nil, errors.New("is not the base64 text of a PKCS#12 file")
		}
		return splitPFX(raw)
	default:
		return nil, errors.New("holds no certificate: its content type is neither " + contentPFX + " nor " + contentPEM)
	}
}

// IsContent says whether a secret of that content type has a certificate with its key.
func IsContent(contentType string) bool {
	media := mediaType(contentType)
	return media == contentPFX || media == contentPEM
}

// FromDER is a bundle of a leaf alone, as the certificates API gives it.
func FromDER(leaf []byte) *Bundle {
	b := &Bundle{certs: []certificate{{der: leaf}}, chain: []int{0}}
	if cert := newCertificate(leaf).parsed; cert != nil {
		b.notAfter = cert.NotAfter
	}
	return b
}

func mediaType(s string) string {
	if media, _, err := mime.ParseMediaType(s); err == nil {
		return media
	}
	return strings.ToLower(strings.TrimSpace(s))
}

// splitPEM reads a key and certificates in any order. Blocks of other types, such as EC PARAMETERS, say nothing that
// the key does not say too.
func splitPEM(content []byte) (*Bundle, error) {
	var b Bundle
	var certs []certificate
	for {
		var block *pem.Block
		block, content = pem.Decode(content)
		if block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			if certs = append(certs, newCertificate(block.Bytes)); len(certs) > maxCerts {
				return nil, errManyCerts
			}
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, errEncryptedKey
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && b.key.block != nil:
			return nil, errManyKeys
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key, err := newPrivateKey(block)
			if err != nil {
				return nil, err
			}
			b.key = key
		}
	}
	switch {
	case len(certs) == 0 && b.key.block == nil:
		return nil, errBrokenPEM
	case len(certs) == 0:
		return nil, errNoCert
	case b.key.block == nil:
		return nil, errNoKey
	}
	err := b.settle(certs)
	return &b, err
}
