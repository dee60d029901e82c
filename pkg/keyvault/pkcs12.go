package keyvault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

const (
	// maxIterations of all key derivations of a file together, which has three or four. Windows and OpenSSL use 2,000 or
	// 2,048 for each, Java 10,000; at a million, a file takes some seconds.
	maxIterations = 1_000_000
	// maxDepth of nested DER; a PKCS#12 file has about 25, down to the names inside its certificates.
	maxDepth = 64
)

var (
	errBrokenPFX = errors.New("is not a readable PKCS#12 file without a password")
	errSlow      = errors.New("takes too long to decode: a PKCS#12 file with that many iterations of its key derivation is not read")
)

// splitPFX reads a PKCS#12 file (RFC 7292) with an empty password, in either of the two forms that this has.
func splitPFX(content []byte) (*bundle, error) {
	if err := affordable(content); err != nil {
		return nil, err
	}
	key, first, others, err := pkcs12.DecodeChain(content, "")
	switch {
	case err == nil:
	// The library has no types for these.
	case strings.Contains(err.Error(), "private key missing"):
		return nil, errNoKey
	case strings.Contains(err.Error(), "certificate missing"):
		return nil, errNoCert
	case strings.Contains(err.Error(), "exactly one key bag"):
		return nil, errManyKeys
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, errBrokenPFX
	default:
		return splitUnknown(content, err)
	}
	b := &bundle{pfx: content, key: privateKey{parsed: key}}
	for _, cert := range append([]*x509.Certificate{first}, others...) {
		b.certs = append(b.certs, certificate{der: cert.Raw, parsed: cert})
	}
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		// Java and others write an EC key without a copy of its public half. Go would add one, OpenSSL does not.
		if bags, err := splitBags(content); err == nil {
			b.key = bags.key
		}
	}
	b.certs, err = leafFirst(b.key, b.certs)
	return b, err
}

// splitUnknown reads a file at which the library gave up, perhaps only because Go knows no such key or certificate.
func splitUnknown(content []byte, refused error) (*bundle, error) {
	b, err := splitBags(content)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, errNoKey), errors.Is(err, errNoCert), errors.Is(err, errManyKeys), errors.Is(err, errNoLeaf), errors.Is(err, errSlow):
		return nil, err
	case strings.Contains(refused.Error(), "x509: "), strings.Contains(refused.Error(), "PKCS#8 private key"):
		return &bundle{pfx: content, opaque: errOpaque}, nil
	default:
		return nil, errBrokenPFX
	}
}

// budget is how many iterations the key derivations of a file may still have.
type budget int64

// slow says whether the key derivations whose parameters lie open have too many iterations.
func slow(content []byte) bool {
	left := budget(maxIterations)
	return left.overdrawn(content, 0)
}

// overdrawn looks for the parameters of key derivations. In PKCS#12 and PKCS#5 they are an INTEGER behind the OCTET STRING
// of the salt (MacData, PBEParameter, PBKDF2-params), and nothing else in such a file looks like this. So no structure needs
// to be known but DER, and that an OCTET STRING may hold a SEQUENCE.
func (b *budget) overdrawn(der []byte, depth int) bool {
	if depth > maxDepth {
		return true
	}
	var before, value asn1.RawValue
	for len(der) > 0 {
		rest, err := asn1.Unmarshal(der, &value)
		if err != nil {
			return false // the library will not read it either
		}
		inner := value.Bytes
		switch {
		case is(value, asn1.TagInteger) && before.Tag == asn1.TagOctetString: // of any class: the library looks at no more
			var iterations int64
			if _, err := asn1.Unmarshal(value.FullBytes, &iterations); err != nil || iterations > int64(*b) {
				return true
			}
			*b -= budget(max(iterations, 0))
			inner = nil
		case is(value, asn1.TagOctetString):
			var nested asn1.RawValue
			rest, err := asn1.Unmarshal(value.Bytes, &nested)
			if err != nil || len(rest) > 0 || !is(nested, asn1.TagSequence) {
				inner = nil // a salt, a ciphertext
			}
		case !value.IsCompound:
			inner = nil
		}
		if inner != nil && b.overdrawn(inner, depth+1) {
			return true
		}
		der, before = rest, value
	}
	return false
}

// affordable looks for the key derivations of a file, also in its encrypted parts, where the key may lie in an encryption of
// its own. A part that cannot be opened here may hide anything, and is not for the library either.
func affordable(content []byte) error {
	left := budget(maxIterations)
	if left.overdrawn(content, 0) {
		return errSlow
	}
	parts, err := partsOf(content)
	if err != nil {
		return errBrokenPFX
	}
	for _, part := range parts {
		if part.ID.Equal(oidData) {
			continue // it lay open
		}
		held, err := part.open()
		if err != nil || held.unmarshal(new(asn1.RawValue)) != nil {
			return errBrokenPFX
		}
		for _, plain := range held { // whichever the library takes
			if left.overdrawn(plain, 0) {
				return errSlow
			}
		}
	}
	return nil
}

func is(value asn1.RawValue, tag int) bool {
	return value.Class == asn1.ClassUniversal && value.Tag == tag
}

// encodePFX makes a PKCS#12 file with an empty password, of the algorithms that OpenSSL 3 uses. Its salts come from
// the content: the same certificate gives the same bytes, or else each refresh would look like a rotation. Nothing
// depends on their being random, for an empty password protects nothing.
func encodePFX(key privateKey, chain []certificate) ([]byte, error) {
	var certs []*x509.Certificate
	seed := sha256.New()
	for _, cert := range chain {
		if cert.parsed == nil {
			return nil, errors.New("has a certificate of a kind that cannot be written as PKCS#12")
		}
		certs = append(certs, cert.parsed)
		seed.Write(cert.der)
	}
	if key.parsed == nil {
		return nil, errors.New("has a key of a kind that cannot be written as PKCS#12")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.parsed)
	if err != nil {
		return nil, errors.New("has a key of a kind that cannot be written as PKCS#12")
	}
	seed.Write(der)
	const salts = 1024 // bytes; the encoder takes 80
	random, err := hkdf.Key(sha256.New, seed.Sum(nil), nil, "keyvault-csi pfx", salts)
	if err != nil {
		return nil, err
	}
	return pkcs12.Modern2023.WithRand(bytes.NewReader(random)).Encode(key.parsed, certs[0], slices.Clip(certs[1:]), "")
}
