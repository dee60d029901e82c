package certificate

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"strings"
)

// The content types of a secret that holds a certificate with its key.
// https://learn.microsoft.com/azure/key-vault/certificates/about-certificates
const (
	contentPFX = "application/x-pkcs12"
	contentPEM = "application/x-pem-file"
)

// ErrNoKey is the error of the parts that have the private key, if the certificate's key is not exportable.
var ErrNoKey = errors.New("holds no private key: the certificate's key is not exportable; make it exportable, or ask for its chain, cert or ca alone (attribute objects)")

// The reasons why content cannot be used.
var (
	errNoCert       = errors.New("holds no certificate")
	errManyCerts    = fmt.Errorf("holds more than %d certificates", maxCerts)
	errManyKeys     = errors.New("holds several private keys")
	errEncryptedKey = errors.New("holds an encrypted private key; store it without a password")
	errBigKey       = fmt.Errorf("holds a private key of more than %d KiB, which is not read", maxKeyBytes>>10)
	errNoLeaf       = errors.New("holds no certificate that belongs to its private key")
	errBrokenPEM    = errors.New("is not readable PEM")
	errBrokenPFX    = errors.New("is not a readable PKCS#12 file without a password")
	errSlow         = errors.New("takes too long to decode: its key derivations have more than 100,000 iterations together; " +
		"export it with fewer (openssl pkcs12 -export -iter 2048), or use the content type " + contentPEM)
	errFIPS = errors.New("is encrypted in a way that FIPS 140-3 does not allow (SHA-1, 3DES, RC2, or PBKDF2 with a salt of less than 16 bytes), and this build " +
		"runs in FIPS mode (GODEBUG=fips140=only); issue it with the content type " + contentPEM)
	errFIPSLegacy = errors.New("cannot be written with pfxProfile legacy (3DES and SHA-1), because this build runs in FIPS mode (GODEBUG=fips140=only); " +
		"use pfxProfile modern")
	errOpaque = errors.New("holds a key or a certificate that is not read here (such as a certificate that is not DER); issue it with the content type " +
		contentPEM + ", or ask for its PFX alone")
)

// Split reads the value of a certificate's secret: PEM, or the base64 text of PKCS#12, by its content type.
func Split(contentType string, value []byte) (*Bundle, error) {
	is := mediaType(contentType)
	if like, what := looksLike(value); like != "" && like != is {
		another := "another"
		if is == "" {
			another = "not set"
		}
		return nil, fmt.Errorf("holds %s, but its content type is %s; set the content type %s (az keyvault secret set-attributes --content-type)", what, another, like)
	}
	switch is {
	case contentPEM:
		return splitPEM(value)
	case contentPFX:
		// White space may be anywhere: the base64 modules of Python and az wrap lines.
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(value)), ""))
		if err != nil {
			return nil, errors.New("is not the base64 text of a PKCS#12 file")
		}
		return splitPFX(raw)
	default:
		return nil, errors.New("holds no certificate: its content type is neither " + contentPFX + " nor " + contentPEM)
	}
}

// pfxBegins is the base64 text of a SEQUENCE with two bytes of length, or with no known length, that begins with the
// INTEGER 3, the version of PKCS#12. A certificate begins with another SEQUENCE.
var pfxBegins = regexp.MustCompile(`^MI(I...IBA|ACAQM)`)

// looksLike returns the content type that a value has by its first bytes, and what that is, or nothing.
func looksLike(value []byte) (contentType, what string) {
	text := strings.TrimSpace(string(value))
	switch {
	case strings.Contains(text, "-----BEGIN "):
		return contentPEM, "PEM"
	case pfxBegins.MatchString(text):
		return contentPFX, "a PKCS#12 file"
	}
	return "", ""
}

// IsContent reports whether a secret of that content type holds a certificate with its key.
func IsContent(contentType string) bool {
	media := mediaType(contentType)
	return media == contentPFX || media == contentPEM
}

// IsPFX reports whether it is the content type of a PKCS#12 file.
func IsPFX(contentType string) bool { return mediaType(contentType) == contentPFX }

func mediaType(s string) string {
	if media, _, err := mime.ParseMediaType(s); err == nil {
		return media
	}
	return strings.ToLower(strings.TrimSpace(s))
}

func splitPEM(content []byte) (*Bundle, error) {
	found, err := readPEM(content, nil)
	var damaged *Damaged
	switch {
	case errors.As(err, &damaged):
		return nil, fmt.Errorf("%w; store the complete file again (az keyvault secret set --file)", damaged)
	case err != nil:
		return nil, err
	case found.severalKeys:
		return nil, errManyKeys
	}
	return found.bundle(nil)
}

func splitPFX(content []byte) (*Bundle, error) {
	found, err := readPFX(content, nil)
	switch {
	case errors.Is(err, errNotDER), errors.Is(err, errWrongPassword), errors.Is(err, errUnknownCipher):
		return nil, errBrokenPFX
	case err != nil:
		return nil, err
	}
	return found.bundle(content)
}

// contents are the private key and the certificates of a file, in the order of the file.
type contents struct {
	key         *privateKey // nil if it is not exportable
	severalKeys bool        // key is the first one
	certs       []certificate
	opaque      bool // there is DER that is neither a key nor a certificate
}

func (c *contents) addCert(cert certificate) error {
	if len(c.certs) == maxCerts {
		return errManyCerts
	}
	c.certs = append(c.certs, cert)
	return nil
}

// readPEM reads keys and certificates in any order. It skips blocks of other types, such as EC PARAMETERS, which the
// key repeats. The password is for the key, if it is encrypted.
func readPEM(content, password []byte) (*contents, error) {
	blocks, err := readBlocks(content)
	if err != nil {
		return nil, err
	}
	var found contents
	for i, block := range blocks {
		switch {
		case block.Type == "CERTIFICATE":
			if err := found.addCert(newCertificate(block.Bytes)); err != nil {
				return nil, err
			}
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		case found.key != nil:
			found.severalKeys = true
		default:
			found.key, err = readPEMKey(block, password)
			if errors.Is(err, errBrokenPEM) || errors.Is(err, errNotDER) {
				err = &Damaged{i + 1, len(blocks), knownLabel(block.Type), "is not a whole private key: " + isWrong}
			}
			if err != nil {
				return nil, err
			}
		}
	}
	switch {
	case found.key == nil && len(found.certs) == 0:
		return nil, errBrokenPEM
	case len(found.certs) == 0:
		return nil, errNoCert
	}
	return &found, nil
}

// readPEMKey reads a private key, which may be encrypted as PKCS#8 (RFC 5958). It does not support the older
// encryption of PEM itself (RFC 1421), whose key derivation is one round of MD5.
func readPEMKey(block *pem.Block, password []byte) (*privateKey, error) {
	isPKCS8 := block.Type == "ENCRYPTED PRIVATE KEY"
	isPEM := strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
	switch {
	case !isPKCS8 && !isPEM:
		return newPrivateKey(block.Type, block.Bytes)
	case len(password) == 0:
		return nil, errEncryptedKey
	case isPEM:
		return nil, errUnknownCipher
	}
	var held encrypted
	if err := unmarshal(block.Bytes, &held); err != nil {
		return nil, err
	}
	der, err := newDeriver(password).decrypt(held)
	if err != nil {
		return nil, err
	}
	key, err := newPrivateKey("PRIVATE KEY", der)
	if errors.Is(err, errBrokenPEM) {
		return nil, errWrongPassword
	}
	return key, err
}
