package certificate

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"sync"
	"unicode/utf16"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Protection is how a PKCS#12 file is encrypted.
type Protection struct {
	Password volume.Secret // see [Password]
	Profile  volume.PFXProfile

	// Alias is the friendly name of the key (RFC 2985 section 5.5.1): ASCII, not empty. Java shows it in lower case; without
	// one it would call the key "1".
	Alias string
}

const (
	// pfxIterations is the work of one key derivation, as keytool has it. More would only delay the attack on a weak
	// password, and each rotation.
	pfxIterations = 10_000

	// maxProtected bounds the files that a bundle keeps: pods may protect one certificate in different ways.
	maxProtected = 2
)

// protectedFiles are the PKCS#12 files with a password that were made last. No password is kept: a file is found by a MAC of
// its password, whose key is used for nothing else.
type protectedFiles struct {
	mu    sync.Mutex
	key   []byte
	files []protectedFile // the oldest first
}

type protectedFile struct {
	order    volume.ChainOrder
	profile  volume.PFXProfile
	alias    string
	password [sha256.Size]byte
	data     []byte
}

// Protected returns the PKCS#12 file if it exists; see [Bundle.Protect].
func (b *Bundle) Protected(order volume.ChainOrder, p Protection) (data []byte, ok bool) {
	f := &b.protected
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, file := range f.files {
		if file.order == order && file.profile == p.Profile && file.alias == p.Alias && file.password == f.identify(p.Password) {
			return file.data, true
		}
	}
	return nil, false
}

// Protect makes the PKCS#12 file with slow key derivations, and keeps it. The error is the end of a sentence about the secret.
func (b *Bundle) Protect(order volume.ChainOrder, p Protection) (data []byte, err error) {
	if data, ok := b.Protected(order, p); ok {
		return data, nil
	}
	data, err = b.encodeProtected(order, p)
	if err != nil {
		return nil, err
	}
	f := &b.protected
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.files) == maxProtected {
		f.files = append(f.files[:0:0], f.files[1:]...)
	}
	f.files = append(f.files, protectedFile{order, p.Profile, p.Alias, f.identify(p.Password), data})
	return data, nil
}

// identify returns the MAC of a password. The caller holds f.mu.
func (f *protectedFiles) identify(password volume.Secret) (mac [sha256.Size]byte) {
	if f.key == nil {
		f.key = make([]byte, sha256.Size)
		_, _ = rand.Read(f.key) // never fails
	}
	h := hmac.New(sha256.New, f.key)
	h.Write(password.Reveal())
	h.Sum(mac[:0])
	return mac
}

// encodeProtected makes a PKCS#12 file with a password. Its salts and initialization vectors are derived from all that is
// encrypted, so that the same certificate and password give the same bytes: different bytes would look like a rotation at each
// refresh.
//
// That does not weaken the file. The private key is part of the seed, so nobody without it can predict a salt, which is what
// prevents tables of derived keys, and HKDF does not reveal the seed. Other content has other salts, so a derived key and its
// initialization vector never encrypt two contents. The password is not part of the seed: otherwise whoever has the private
// key, such as a program with the PEM file beside, could test passwords by one hash and not by thousands. What a reader of two
// files can see is that they have the same content with different passwords.
func (b *Bundle) encodeProtected(order volume.ChainOrder, p Protection) ([]byte, error) {
	switch {
	case len(b.certs) == 0:
		return nil, errOpaque
	case b.key == nil:
		return nil, ErrNoKey
	case p.Profile == volume.PFXLegacy && fips140.Enforced():
		return nil, errFIPSLegacy
	}
	m, err := b.material(order, "keyvault-csi pfx with password "+string(p.Profile)+" "+p.Alias)
	if err != nil {
		return nil, err
	}
	encoder := pkcs12.Modern2023
	if p.Profile == volume.PFXLegacy {
		// Not LegacyRC2: OpenSSL 3 cannot read its RC2 with 40 bits, and Java has read 3DES as long.
		encoder = pkcs12.LegacyDES
	}
	der, err := m.encode(encoder.WithIterations(pfxIterations), string(p.Password.Reveal()))
	if err != nil {
		return nil, errors.New("cannot be written as PKCS#12 with a password") // the error of the library could quote the password
	}
	return nameKey(der, p)
}

var oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}

// nameKey adds the friendly name to the key of a file that the encoder made, which has no option for it: the last part has
// the bag of the key, in clear but for the key itself. The MAC is made again.
func nameKey(der []byte, p Protection) ([]byte, error) {
	var file pfxFile
	var parts []contentInfo
	var bags []safeBag
	err := unmarshal(der, &file)
	if err == nil {
		err = unmarshal(octets(file.Safe.Content.Bytes), &parts)
	}
	if err == nil && len(parts) > 0 {
		err = unmarshal(octets(parts[len(parts)-1].Content.Bytes), &bags)
	}
	if err != nil || len(bags) != 1 {
		return nil, errNotDER
	}
	name, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: bmp(p.Alias)})
	if err != nil {
		return nil, err
	}
	bag := &bags[0]
	bag.Attributes = append(bag.Attributes, bagAttribute{oidFriendlyName, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: name}})
	if parts[len(parts)-1].Content, err = wrapped(bags); err != nil {
		return nil, err
	}
	if file.Safe.Content, err = wrapped(parts); err != nil {
		return nil, err
	}
	newHash := hashOf(file.MAC.Digest.Algorithm.Algorithm)
	if newHash == nil {
		return nil, errUnknownCipher
	}
	key := newDeriver(p.Password.Reveal()).pkcs12KDF(newHash, forMAC, file.MAC.Salt, file.MAC.Iterations, newHash().Size())
	h := hmac.New(newHash, key)
	h.Write(octets(file.Safe.Content.Bytes))
	file.MAC.Digest.Digest = h.Sum(nil)
	return asn1.Marshal(file)
}

// wrapped returns the content of a contentInfo of type data: the DER of a value in an OCTET STRING.
func wrapped(value any) (content asn1.RawValue, err error) {
	der, err := asn1.Marshal(value)
	if err != nil {
		return content, err
	}
	inner, err := asn1.Marshal(der)
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: inner}, err
}

// bmp returns the bytes of a BMPString.
func bmp(text string) (data []byte) {
	for _, unit := range utf16.Encode([]rune(text)) {
		data = append(data, byte(unit>>8), byte(unit)) //nolint:gosec // G115: its two halves
	}
	return data
}
