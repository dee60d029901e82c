package certificate

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"
)

// bundle takes the file apart without a need to understand the key and the certificates: their DER is passed on as it is.
// It is for files at which the library gives up because Go knows no such key or certificate, P-256K first of all, and that
// other programs read; the library has then verified the file's MAC, if it has one and the library knows how.
func (f *pfxFile) bundle() (*Bundle, error) {
	found := bagged{Bundle: &Bundle{pfx: f.content}}
	for _, part := range f.parts {
		for _, bag := range part[0] {
			if err := found.add(bag, f.password); err != nil {
				return nil, err
			}
		}
	}
	return found.sorted()
}

// bagged is what was found so far, in file order.
type bagged struct {
	*Bundle
	certIDs [][]byte // of each certificate, by which a key finds its own
	hasKey  bool
	keyID   []byte
}

func (b *bagged) add(bag safeBag, password passphrase) (err error) {
	switch {
	case bag.isCert():
		var held struct {
			ID   asn1.ObjectIdentifier
			Data []byte `asn1:"tag:0,explicit"`
		}
		if err := unmarshal(bag.Value.Bytes, &held); err != nil {
			return err
		}
		cert := newCertificate(held.Data)
		if cert.public() == nil {
			b.opaque = errOpaque
		}
		b.certs = append(b.certs, cert)
		b.certIDs = append(b.certIDs, bag.localKeyID())
	case bag.isKey():
		if b.hasKey {
			return errManyKeys
		}
		b.hasKey = true
		b.key, err = bag.key(password)
		if errors.Is(err, errOpaque) {
			b.opaque, err = err, nil
		}
		b.keyID = bag.localKeyID()
	}
	return err
}

func (b *bagged) sorted() (*Bundle, error) {
	switch {
	case !b.hasKey:
		return nil, errNoKey
	case len(b.certs) == 0:
		return nil, errNoCert
	}
	if b.opaque != nil {
		return &Bundle{pfx: b.pfx, opaque: b.opaque}, nil //nolint:nilerr // what is not read is passed on
	}
	certs := b.certs
	if b.key.public() == nil { // settle then takes the first
		own := func(id []byte) bool { return id != nil && bytes.Equal(id, b.keyID) }
		if i := slices.IndexFunc(b.certIDs, own); i >= 0 {
			certs = toFront(certs, i)
		}
	}
	err := b.settle(certs)
	return b.Bundle, err
}

// safeBag holds a key, a certificate or something else (RFC 7292 section 4.2).
type safeBag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue `asn1:"tag:0,explicit"`
	Attributes []struct {
		ID     asn1.ObjectIdentifier
		Values asn1.RawValue `asn1:"set"`
	} `asn1:"set,optional"`
}

func (b safeBag) isCert() bool { return b.ID.Equal(oidCertBag) }

func (b safeBag) isKey() bool { return b.ID.Equal(oidKeyBag) || b.ID.Equal(oidShroudedKeyBag) }

// localKeyID is the mark that a key and its certificate share, or nil.
func (b safeBag) localKeyID() []byte {
	for _, a := range b.Attributes {
		if a.ID.Equal(oidLocalKeyID) {
			return octets(a.Values.Bytes)
		}
	}
	return nil
}

// key is the PKCS#8 of a key bag as OpenSSL writes it: without attributes, and an EC key without the parameters
// that the algorithm names already.
func (b safeBag) key(password passphrase) (privateKey, error) {
	plain := plaintexts{b.Value.Bytes}
	if b.ID.Equal(oidShroudedKeyBag) {
		var held encryptedPrivateKeyInfo
		err := unmarshal(b.Value.Bytes, &held)
		if err != nil {
			return privateKey{}, err
		}
		if plain, err = decrypt(held.Algorithm, held.Data, password); err != nil {
			return privateKey{}, errNotDER
		}
	}
	var key pkcs8
	if err := plain.unmarshal(&key); err != nil {
		if plain.unmarshal(new(asn1.RawValue)) == nil {
			err = errOpaque
		}
		return privateKey{}, err
	}
	key.Version = 0
	if key.isEC() {
		if der, err := withoutParameters(key.Key); err == nil {
			key.Key = der
		}
	}
	der, err := asn1.Marshal(key)
	if err != nil {
		return privateKey{}, errNotDER
	}
	parsed, err := newPrivateKey(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err != nil {
		return privateKey{}, err
	}
	parsed.exact = true
	return parsed, nil
}

// pkcs8 is a PrivateKeyInfo (RFC 5208). What may follow in it, attributes and a copy of the public key, is not read.
type pkcs8 struct {
	Version   int
	Algorithm asn1.RawValue
	Key       []byte
}

var oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}

func (k pkcs8) isEC() bool {
	var algorithm pkix.AlgorithmIdentifier
	return unmarshal(k.Algorithm.FullBytes, &algorithm) == nil && algorithm.Algorithm.Equal(oidECPublicKey)
}

// ecPrivateKey is RFC 5915 in its elements.
func ecPrivateKey(der []byte) (elements []asn1.RawValue, err error) {
	err = unmarshal(der, &elements)
	return elements, err
}

const (
	ecParameters = 0 // the context tags in an EC private key
	ecPublicKey  = 1
)

func withoutParameters(der []byte) ([]byte, error) {
	elements, err := ecPrivateKey(der)
	if err != nil {
		return nil, err
	}
	kept := make([]asn1.RawValue, 0, len(elements))
	for _, e := range elements {
		if e.Class != asn1.ClassContextSpecific || e.Tag != ecParameters {
			kept = append(kept, e)
		}
	}
	return asn1.Marshal(kept)
}

// subjectPublicKey is the public key in a SubjectPublicKeyInfo (RFC 5280), without its algorithm, or nil.
func subjectPublicKey(der []byte) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if err := unmarshal(der, &info); err != nil {
		return nil
	}
	return info.Key.Bytes
}
