package keyvault

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"
)

// splitBags takes a PKCS#12 file apart without a need to understand the key and the certificates: their DER is passed on
// as it is. It is for files at which the library gives up because Go knows no such key or certificate, P-256K first of
// all, and that other programs read; the library has then verified the file's MAC, if it has one.
func splitBags(content []byte) (*bundle, error) {
	parts, err := partsOf(content)
	if err != nil {
		return nil, err
	}
	found := bagged{bundle: bundle{pfx: content}}
	for _, part := range parts {
		held, err := part.open()
		if err != nil {
			return nil, err
		}
		var bags []safeBag
		if err := held.unmarshal(&bags); err != nil {
			return nil, err
		}
		for _, bag := range bags {
			if err := found.add(bag); err != nil {
				return nil, err
			}
		}
	}
	return found.sorted()
}

// partsOf gives the parts of a PKCS#12 file, some of them encrypted (RFC 7292 section 4.1).
func partsOf(content []byte) (parts []contentInfo, err error) {
	var file struct {
		Version int
		Safe    contentInfo
		MAC     asn1.RawValue `asn1:"optional"`
	}
	if err := unmarshal(content, &file); err != nil {
		return nil, err
	}
	err = unmarshal(octets(file.Safe.Content.Bytes), &parts)
	return parts, err
}

// bagged is what was found so far, in file order.
type bagged struct {
	bundle
	certIDs [][]byte // of each certificate, by which a key finds its own
	keyID   []byte
}

func (b *bagged) add(bag safeBag) (err error) {
	switch {
	case bag.ID.Equal(oidCertBag):
		var held struct {
			ID   asn1.ObjectIdentifier
			Data []byte `asn1:"tag:0,explicit"`
		}
		if err := unmarshal(bag.Value.Bytes, &held); err != nil {
			return err
		}
		cert := newCertificate(held.Data)
		if cert.public() == nil {
			return errNotDER
		}
		b.certs = append(b.certs, cert)
		b.certIDs = append(b.certIDs, bag.localKeyID())
	case bag.ID.Equal(oidKeyBag), bag.ID.Equal(oidShroudedKeyBag):
		if b.key.block != nil {
			return errManyKeys
		}
		b.key, err = bag.key()
		b.keyID = bag.localKeyID()
	}
	return err
}

func (b *bagged) sorted() (*bundle, error) {
	switch {
	case b.key.block == nil:
		return nil, errNoKey
	case len(b.certs) == 0:
		return nil, errNoCert
	}
	certs := b.certs
	if b.key.public() == nil { // leafFirst then takes the first
		own := func(id []byte) bool { return id != nil && bytes.Equal(id, b.keyID) }
		if i := slices.IndexFunc(b.certIDs, own); i >= 0 {
			certs = toFront(certs, i)
		}
	}
	var err error
	b.certs, err = leafFirst(b.key, certs)
	return &b.bundle, err
}

var (
	oidData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKeyBag = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidLocalKeyID     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
)

// errNotDER is what is not, or not quite, the structure that it should be.
var errNotDER = errors.New("is not the DER that it should be")

func unmarshal(der []byte, into any) error {
	if rest, err := asn1.Unmarshal(der, into); err != nil || len(rest) > 0 {
		return errNotDER
	}
	return nil
}

// octets is what an OCTET STRING holds, or nothing.
func octets(der []byte) []byte {
	var held []byte
	if err := unmarshal(der, &held); err != nil {
		return nil
	}
	return held
}

// contentInfo is a part of the file (RFC 2315 section 7).
type contentInfo struct {
	ID      asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// open gives what a part holds, and undoes its encryption with the empty password.
func (c contentInfo) open() (plaintexts, error) {
	switch {
	case c.ID.Equal(oidData):
		return plaintexts{octets(c.Content.Bytes)}, nil
	case c.ID.Equal(oidEncryptedData):
		var held struct {
			Version int
			Info    struct {
				ID        asn1.ObjectIdentifier
				Algorithm pkix.AlgorithmIdentifier
				Data      []byte `asn1:"tag:0,optional"`
			}
		}
		if err := unmarshal(c.Content.Bytes, &held); err != nil {
			return nil, err
		}
		return decrypt(held.Info.Algorithm, held.Info.Data)
	}
	return nil, errNotDER
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
func (b safeBag) key() (privateKey, error) {
	var key pkcs8
	if b.ID.Equal(oidKeyBag) {
		if err := unmarshal(b.Value.Bytes, &key); err != nil {
			return privateKey{}, err
		}
	} else {
		var held struct {
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte
		}
		if err := unmarshal(b.Value.Bytes, &held); err != nil {
			return privateKey{}, err
		}
		plain, err := decrypt(held.Algorithm, held.Data)
		if err != nil {
			return privateKey{}, err
		}
		if err := plain.unmarshal(&key); err != nil {
			return privateKey{}, err
		}
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
	parsed.exact = true
	return parsed, err
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
