package certificate

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"
)

// The limits of a chain. Without them, ordering many certificates with one name and large keys would take hours.
const (
	// maxCerts bounds the certificates of one file. The value of a Key Vault secret has space for some dozens.
	maxCerts = 256
	// maxChecks bounds the signature checks of one chain; a check takes up to 5 ms. An ordinary chain takes one for
	// each certificate. After the last check, the name alone decides.
	maxChecks = 32
	// maxModulus is the largest RSA modulus, in bits, whose signatures are checked.
	maxModulus = 16 << 10
)

// certificate is a certificate while its file is read.
type certificate struct {
	der             []byte
	parsed          *x509.Certificate // nil: Go cannot parse it, other programs may
	issuer, subject []byte            // DER
	public          []byte            // the bits of the public key; nil: der is not a certificate
	end             time.Time         // of its validity
	id              []byte            // id of its private key in a PKCS#12 file, or nil
}

func newCertificate(der []byte) certificate {
	c := certificate{der: der}
	c.parsed, _ = x509.ParseCertificate(der)
	var fields struct { // RFC 5280
		Signed struct {
			Version   int `asn1:"optional,explicit,default:0,tag:0"`
			Serial    asn1.RawValue
			Signature asn1.RawValue
			Issuer    asn1.RawValue
			Validity  asn1.RawValue
			Subject   asn1.RawValue
			PublicKey asn1.RawValue
		}
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if unmarshal(der, &fields) == nil {
		signed := fields.Signed
		var validity struct{ NotBefore, NotAfter time.Time }
		if unmarshal(signed.Validity.FullBytes, &validity) == nil {
			c.end = validity.NotAfter
		}
		c.issuer, c.subject, c.public = signed.Issuer.FullBytes, signed.Subject.FullBytes, publicKeyBits(signed.PublicKey.FullBytes)
	}
	return c
}

// publicKeyBits returns the key of a SubjectPublicKeyInfo (RFC 5280), without its algorithm, or nil.
func publicKeyBits(der []byte) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if err := unmarshal(der, &info); err != nil {
		return nil
	}
	return info.Key.Bytes
}

// leafFirst moves the certificate of the private key to the front, and returns where it was. The others keep their order.
// Key Vault writes a PFX from the root to the leaf; an imported one may have any order. If the public key is not known, the
// id of the key decides. Without an id, the first certificate is the leaf. Without a key, the names decide.
func (c *contents) leafFirst() (from int, err error) {
	var public []byte // of the private key; nil if it is not known
	if c.key != nil {
		public = c.key.public()
	}
	switch {
	case c.key == nil:
		from = lowest(c.certs)
	case public != nil:
		from = slices.IndexFunc(c.certs, func(cert certificate) bool { return bytes.Equal(cert.public, public) })
		if from < 0 {
			return 0, errNoLeaf
		}
	default:
		from = max(0, slices.IndexFunc(c.certs, func(cert certificate) bool {
			return cert.id != nil && bytes.Equal(cert.id, c.key.id)
		}))
	}
	leaf := c.certs[from]
	c.certs = slices.Insert(slices.Delete(c.certs, from, from+1), 0, leaf)
	return from, nil
}

// lowest returns the index of the leaf by the names of the certificates, where there is no key: the first that has
// issued none of the others. A root whose issued certificates are not there is no leaf, unless it is alone.
func lowest(certs []certificate) int {
	selfIssued := func(c certificate) bool { return bytes.Equal(c.issuer, c.subject) }
	i := slices.IndexFunc(certs, func(c certificate) bool {
		return !selfIssued(c) && !slices.ContainsFunc(certs, func(other certificate) bool {
			return !selfIssued(other) && bytes.Equal(other.issuer, c.subject)
		})
	})
	return max(i, 0)
}

// issued returns the indices of the certificates: the first, its issuer, the next issuer and so on, then the others.
// linked counts those before the others.
func issued(certs []certificate) (result []int, linked int) {
	var rest []int
	for i := range certs[1:] {
		rest = append(rest, i+1)
	}
	result = []int{0}
	checks := maxChecks
	for {
		next := issuer(certs, result[len(result)-1], rest, &checks)
		if next < 0 {
			return append(result, rest...), len(result)
		}
		result = append(result, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
}

// reach is how far a chain reaches. Roots are often left out, because clients have them, so a chain without a root has
// no gap by itself.
type reach struct {
	last  int  // position from 1 of the certificate whose issuer is missing; 0 if the chain ends with a root
	stray bool // a certificate of another name is in the file and not in the chain
}

func reachOf(certs []certificate, order []int, linked int) reach {
	last := certs[order[linked-1]]
	if len(last.issuer) == 0 || bytes.Equal(last.issuer, last.subject) {
		return reach{}
	}
	inChain := func(stray certificate) bool { // also another certificate of the same CA
		return slices.ContainsFunc(order[:linked], func(i int) bool { return bytes.Equal(certs[i].subject, stray.subject) })
	}
	return reach{linked, slices.ContainsFunc(order[linked:], func(i int) bool { return !inChain(certs[i]) })}
}

// issuer returns the candidate that issued a certificate, or -1. It compares names, and checks the signature if Go
// can and checks are left. It ignores key identifiers, which many certificates do not have.
func issuer(certs []certificate, of int, candidates []int, checks *int) int {
	child := certs[of]
	if len(child.issuer) == 0 || bytes.Equal(child.issuer, child.subject) {
		return -1
	}
	unchecked := -1
	for i, index := range candidates {
		candidate := certs[index]
		if !bytes.Equal(child.issuer, candidate.subject) {
			continue
		}
		wrong := false
		if child.parsed != nil && checkable(candidate.parsed) && *checks > 0 {
			*checks--
			err := child.parsed.CheckSignatureFrom(candidate.parsed)
			if err == nil {
				return i
			}
			wrong = !notJudged(err)
		}
		if !wrong && unchecked < 0 {
			unchecked = i
		}
	}
	return unchecked
}

// checkable reports whether checking a signature with the certificate's key takes milliseconds.
func checkable(cert *x509.Certificate) bool {
	if cert == nil {
		return false
	}
	key, isRSA := cert.PublicKey.(*rsa.PublicKey)
	return !isRSA || key.N.BitLen() <= maxModulus
}

// notJudged reports whether Go has not verified a signature: it rejects SHA-1, and CAs without the constraints of
// public ones.
func notJudged(err error) bool {
	var insecure x509.InsecureAlgorithmError
	var constraint x509.ConstraintViolationError
	return errors.As(err, &insecure) || errors.As(err, &constraint) || errors.Is(err, x509.ErrUnsupportedAlgorithm)
}
