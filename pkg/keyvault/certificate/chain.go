package certificate

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
)

// The limits of a chain. Whoever can write a certificate could have put so many in, of one name and with such keys, that
// to find out who signed which would take hours.
const (
	// maxCerts of one file. The value of a secret of Key Vault has room for some dozens.
	maxCerts = 256
	// maxChecks of signatures in ordering one chain, of which one takes up to 5 ms. It takes one for each certificate, and one
	// more for each other that has the name of its issuer; from there on the name alone decides.
	maxChecks = 32
	// maxModulus of an RSA key, in bits, whose signatures are checked.
	maxModulus = 16 << 10
)

// leafFirst moves the certificate whose public key is that of the private key to the front, wherever it stands in the
// file: a vault's own PFX goes from the root to the leaf, an imported one in any order. The rest keeps its order. With a
// key whose public half is not known, the first certificate is taken to be the leaf.
func leafFirst(key privateKey, certs []certificate) ([]certificate, error) {
	if len(certs) > maxCerts {
		return nil, errManyCerts
	}
	public := key.public()
	if public == nil {
		return certs, nil
	}
	for i, cert := range certs {
		if bytes.Equal(public, cert.public()) {
			return toFront(certs, i), nil
		}
	}
	return nil, errNoLeaf
}

func toFront(certs []certificate, i int) []certificate {
	first := []certificate{certs[i]}
	return append(append(first, certs[:i]...), certs[i+1:]...)
}

// public is the public half of the key as it stands in a certificate, or nil where it is not known: of a key that Go
// cannot read it is known if it is an EC key that has a copy of it.
func (k privateKey) public() []byte {
	if signer, ok := k.parsed.(interface{ Public() crypto.PublicKey }); ok {
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			return nil
		}
		return subjectPublicKey(der)
	}
	if k.parsed != nil {
		return nil
	}
	der := k.block.Bytes
	var wrapped pkcs8
	if _, err := asn1.Unmarshal(der, &wrapped); err == nil {
		if !wrapped.isEC() {
			return nil
		}
		der = wrapped.Key
	}
	elements, err := ecPrivateKey(der)
	if err != nil {
		return nil
	}
	for _, e := range elements {
		var point asn1.BitString
		if e.Class == asn1.ClassContextSpecific && e.Tag == ecPublicKey && unmarshal(e.Bytes, &point) == nil {
			return point.Bytes
		}
	}
	return nil
}

// public is the certificate's public key, without its algorithm.
func (c certificate) public() []byte { return subjectPublicKey(c.fields().PublicKey.FullBytes) }

// certificateFields are the parts of a certificate (RFC 5280) that make a chain.
type certificateFields struct {
	Version   int `asn1:"optional,explicit,default:0,tag:0"`
	Serial    asn1.RawValue
	Signature asn1.RawValue
	Issuer    asn1.RawValue
	Validity  asn1.RawValue
	Subject   asn1.RawValue
	PublicKey asn1.RawValue
}

// fields reads certificates that Go would not parse as well; they are empty where the DER is none of a certificate.
func (c certificate) fields() certificateFields {
	var cert struct {
		Signed    certificateFields
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if err := unmarshal(c.der, &cert); err != nil {
		return certificateFields{}
	}
	return cert.Signed
}

// issued gives the places of a leaf and of its CAs in the order in which they have issued each other, then those of others.
// certs has the leaf first.
func issued(certs []certificate) []int {
	rest := make([]int, 0, len(certs))
	for i := range certs[1:] {
		rest = append(rest, i+1)
	}
	result := []int{0}
	checks := maxChecks
	for {
		next := issuer(certs, result[len(result)-1], rest, &checks)
		if next < 0 {
			return append(result, rest...)
		}
		result = append(result, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
}

// issuer finds among the candidates who issued one of certs: by name, and by signature where Go can check it and checks are left. Key identifiers are
// not looked at: many certificates have none.
func issuer(certs []certificate, of int, candidates []int, checks *int) int {
	child := certs[of]
	fields := child.fields()
	if len(fields.Issuer.FullBytes) == 0 || bytes.Equal(fields.Issuer.FullBytes, fields.Subject.FullBytes) {
		return -1
	}
	uncheckable := -1
	for i, place := range candidates {
		candidate := certs[place]
		if !bytes.Equal(fields.Issuer.FullBytes, candidate.fields().Subject.FullBytes) {
			continue
		}
		checked := false
		if child.parsed != nil && checkable(candidate.parsed) && *checks > 0 {
			*checks--
			err := child.parsed.CheckSignatureFrom(candidate.parsed)
			if err == nil {
				return i
			}
			checked = !notChecked(err)
		}
		if !checked && uncheckable < 0 {
			uncheckable = i
		}
	}
	return uncheckable
}

// checkable says whether the signatures of a certificate's key can be checked in reasonable time.
func checkable(cert *x509.Certificate) bool {
	if cert == nil {
		return false
	}
	key, isRSA := cert.PublicKey.(*rsa.PublicKey)
	return !isRSA || key.N.BitLen() <= maxModulus
}

// notChecked tells a signature that Go would not judge from one that it has judged to be wrong: SHA-1 is such an
// algorithm, and a private CA may lack the constraints that a public one has.
func notChecked(err error) bool {
	var insecure x509.InsecureAlgorithmError
	var constraint x509.ConstraintViolationError
	return errors.As(err, &insecure) || errors.As(err, &constraint) || errors.Is(err, x509.ErrUnsupportedAlgorithm)
}
