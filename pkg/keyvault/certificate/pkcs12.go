package certificate

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
)

// The structures of a PKCS#12 file (RFC 7292 section 4; RFC 2315 for the parts). The file has a MAC and parts. A part
// has bags and may be encrypted. A bag has one key or certificate.
type (
	pfxFile struct {
		Version int
		Safe    contentInfo
		MAC     macData `asn1:"optional"`
	}
	contentInfo struct {
		ID      asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	encryptedData struct {
		Version int
		Info    struct {
			ID        asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	safeBag struct {
		ID         asn1.ObjectIdentifier
		Value      asn1.RawValue  `asn1:"tag:0,explicit"`
		Attributes []bagAttribute `asn1:"set,optional"`
	}
	bagAttribute struct {
		ID     asn1.ObjectIdentifier
		Values asn1.RawValue `asn1:"set"`
	}
	certBag struct {
		ID   asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
)

var (
	oidData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKeyBag = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidLocalKeyID     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
)

// readPFX reads a PKCS#12 file. An empty password has two forms there (RFC 7292 appendix B.1): the two zero bytes
// that end a string, or no bytes.
func readPFX(content, password []byte) (*contents, error) {
	d := newDeriver(password)
	found, err := d.readPFX(content)
	if len(password) == 0 && d.usedBMP && errors.Is(err, errWrongPassword) {
		d = &deriver{left: maxIterations}
		found, err = d.readPFX(content)
	}
	return found, err
}

func (d *deriver) readPFX(content []byte) (*contents, error) {
	var file pfxFile
	if err := unmarshal(content, &file); err != nil {
		return nil, err
	}
	safe := octets(file.Safe.Content.Bytes)
	if err := d.verify(file.MAC, safe); err != nil {
		return nil, err
	}
	var parts []contentInfo
	if err := unmarshal(safe, &parts); err != nil {
		return nil, err
	}
	var found contents
	for _, part := range parts {
		bags, err := d.open(part)
		if err != nil {
			return nil, err
		}
		for _, bag := range bags {
			if err := d.add(&found, bag); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case found.key == nil && (found.opaque || len(found.certs) == 0):
		return nil, ErrNoKey
	case len(found.certs) == 0:
		return nil, errNoCert
	}
	return &found, nil
}

// open returns the bags of a part.
func (d *deriver) open(part contentInfo) (bags []safeBag, err error) {
	if part.ID.Equal(oidData) {
		err := unmarshal(octets(part.Content.Bytes), &bags)
		return bags, err
	}
	var held encryptedData
	if !part.ID.Equal(oidEncryptedData) || unmarshal(part.Content.Bytes, &held) != nil {
		return nil, errNotDER
	}
	der, err := d.decrypt(encrypted{held.Info.Algorithm, held.Info.Data})
	if err != nil {
		return nil, err
	}
	if unmarshal(der, &bags) != nil {
		return nil, errWrongPassword
	}
	return bags, nil
}

// add reads a bag with a key or a certificate. It skips bags of other types.
func (d *deriver) add(found *contents, bag safeBag) error {
	der := bag.Value.Bytes
	shrouded := bag.ID.Equal(oidShroudedKeyBag)
	switch {
	case bag.ID.Equal(oidCertBag):
		var held certBag
		if err := unmarshal(der, &held); err != nil {
			return err
		}
		cert := newCertificate(held.Data)
		cert.id = bag.localKeyID()
		found.opaque = found.opaque || cert.public == nil
		return found.addCert(cert)
	case !shrouded && !bag.ID.Equal(oidKeyBag):
		return nil
	case found.key != nil:
		return errManyKeys
	case len(der) > maxKeyBytes:
		return errBigKey
	case shrouded:
		var held encrypted
		err := unmarshal(der, &held)
		if err != nil {
			return err
		}
		if der, err = d.decrypt(held); err != nil {
			return err
		}
	}
	key, err := newPKCS8Key(der)
	if err != nil {
		if unmarshal(der, new(asn1.RawValue)) != nil {
			return errWrongPassword
		}
		key, found.opaque = &privateKey{}, true
	}
	key.id = bag.localKeyID()
	found.key = key
	return nil
}

// localKeyID returns the id that a key shares with its certificate, or nil.
func (b safeBag) localKeyID() []byte {
	for _, a := range b.Attributes {
		if a.ID.Equal(oidLocalKeyID) {
			return octets(a.Values.Bytes)
		}
	}
	return nil
}

var errNotDER = errors.New("is not the DER that it should be")

// unmarshal reads exactly one value.
func unmarshal(der []byte, into any) error {
	if rest, err := asn1.Unmarshal(der, into); err != nil || len(rest) > 0 {
		return errNotDER
	}
	return nil
}

// octets returns the content of an OCTET STRING, or nil.
func octets(der []byte) (content []byte) {
	if unmarshal(der, &content) != nil {
		return nil
	}
	return content
}
