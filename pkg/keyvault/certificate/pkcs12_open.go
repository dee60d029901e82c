package certificate

import (
	"crypto/sha1" //nolint:gosec // G505: the default of PBKDF2 (RFC 8018, appendix A.2)
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"unicode/utf16"
)

// maxIterations of all key derivations of a file together, which has three or four. Windows uses 2,000 for each, OpenSSL
// 2,048, Java 10,000; at 100,000, a file takes some tens of milliseconds.
const maxIterations = 100_000

// passphrase is a password in the forms that PKCS#12 files know.
type passphrase struct {
	text []byte   // of PBES2 and PBMAC1 (RFC 8018 section 3)
	bmp  [][]byte // of the derivations of RFC 7292 appendix B.1. An empty password is the two zero bytes that end a string, or none at all.
}

func newPassphrase(password []byte) passphrase {
	if len(password) == 0 {
		return passphrase{bmp: [][]byte{{0, 0}, {}}}
	}
	runes := []rune(string(password)) // with a replacement for what is no UTF-8, as the library has
	var bmp []byte
	for _, unit := range append(utf16.Encode(runes), 0) {
		bmp = append(bmp, byte(unit>>8), byte(unit)) //nolint:gosec // G115: its two halves
	}
	return passphrase{text: []byte(string(runes)), bmp: [][]byte{bmp}}
}

// pfxFile is a PKCS#12 file (RFC 7292) whose encrypted parts have been opened.
type pfxFile struct {
	content  []byte
	password passphrase
	parts    []pfxPart
}

// pfxPart holds the bags of one part: of each reading, if it is not known which form of an empty password is meant.
type pfxPart [][]safeBag

// pfxContent is the outermost structure. Each field that leads to a key derivation is read as go-pkcs12 reads it, so that
// it derives nothing which has not been counted here.
type pfxContent struct {
	Version int
	Safe    contentInfo
	MAC     struct {
		MAC struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
		Salt       []byte
		Iterations int `asn1:"optional,default:1"`
	} `asn1:"optional"`
}

// openPFX opens the parts of a file if its key derivations have no more than maxIterations together, those of the keys in
// its encrypted parts included. A part that cannot be opened here may hide anything, and is not for the library either.
func openPFX(content, password []byte) (*pfxFile, error) {
	var file pfxContent
	if err := unmarshal(content, &file); err != nil {
		return nil, err
	}
	var parts []contentInfo
	if err := unmarshal(octets(file.Safe.Content.Bytes), &parts); err != nil {
		return nil, err
	}
	left := budget(maxIterations)
	left.spend(file.MAC.Iterations)
	left.spendOn(file.MAC.MAC.Algorithm)
	encrypted := make([]encryptedData, len(parts))
	for i, part := range parts {
		if !part.ID.Equal(oidEncryptedData) {
			continue
		}
		if err := unmarshal(part.Content.Bytes, &encrypted[i]); err != nil {
			return nil, err
		}
		left.spendOn(encrypted[i].Info.Algorithm)
	}
	if left < 0 {
		return nil, errSlow
	}
	opened := &pfxFile{content: content, password: newPassphrase(password)}
	for i, part := range parts {
		bags, err := part.open(encrypted[i], opened.password)
		if err != nil {
			return nil, err
		}
		opened.parts = append(opened.parts, bags)
	}
	if err := opened.check(&left); err != nil {
		return nil, err
	}
	return opened, nil
}

// check looks at the keys that the library is going to decrypt and to parse.
func (f *pfxFile) check(left *budget) error {
	for _, part := range f.parts {
		for _, bags := range part { // whichever the library takes
			for _, bag := range bags {
				if bag.ID.Equal(oidShroudedKeyBag) {
					var key encryptedPrivateKeyInfo
					if unmarshal(bag.Value.Bytes, &key) == nil {
						left.spendOn(key.Algorithm)
					}
				}
				if bag.isKey() && len(bag.Value.Bytes) > maxKeyBytes {
					return errBigKey
				}
			}
		}
	}
	if *left < 0 {
		return errSlow
	}
	return nil
}

// holds says whether there is any such bag.
func (f *pfxFile) holds(kind func(safeBag) bool) bool {
	for _, part := range f.parts {
		if slices.ContainsFunc(part[0], kind) {
			return true
		}
	}
	return false
}

// budget is how many iterations the key derivations of a file may still have; below 0 it is overdrawn.
type budget int64

func (b *budget) spend(iterations int) {
	if *b >= 0 { // nor can it come to a second overflow
		*b -= budget(max(iterations, 0))
	}
}

// spendOn spends the iterations of the key derivation that belongs to an algorithm. Those that the library does not know, and
// parameters that it cannot read, lead to none. PBKDF2 makes all its iterations for each hash in the length of the key.
func (b *budget) spendOn(algorithm pkix.AlgorithmIdentifier) {
	parameters := algorithm.Parameters.FullBytes
	if _, newCipher := pbeCipher(algorithm.Algorithm.String()); newCipher != nil {
		var derivation pbeParameters
		_ = unmarshal(parameters, &derivation)
		b.spend(derivation.Iterations)
		return
	}
	var scheme pbes2Parameters // PBMAC1-params has the same form (RFC 8018 appendix A.5)
	isScheme := algorithm.Algorithm.Equal(oidPBES2) || algorithm.Algorithm.Equal(oidPBMAC1)
	if !isScheme || unmarshal(parameters, &scheme) != nil || !scheme.KeyDerivation.Algorithm.Equal(oidPBKDF2) {
		return
	}
	var derivation struct {
		Salt       asn1.RawValue // the library looks at its tag alone
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	_ = unmarshal(scheme.KeyDerivation.Parameters.FullBytes, &derivation)
	keyLength, _ := blockCipher(scheme.Encryption.Algorithm.String())
	if algorithm.Algorithm.Equal(oidPBMAC1) {
		keyLength = min(derivation.KeyLength, maxPBMAC1Key)
	}
	size := sha1.Size
	if newHash := prf(derivation.PRF.Algorithm.String()); newHash != nil {
		size = newHash().Size()
	}
	for range max(1, (keyLength+size-1)/size) {
		b.spend(derivation.Iterations)
	}
}

// maxPBMAC1Key is the longest key in bytes that the library derives for PBMAC1.
const maxPBMAC1Key = 64

// contentInfo is a part of the file (RFC 2315 section 7).
type contentInfo struct {
	ID      asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// encryptedData is what an encrypted part is (RFC 2315 section 13).
type encryptedData struct {
	Version int
	Info    struct {
		ID        asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte `asn1:"tag:0,optional"`
	}
}

// open gives the bags of a part. What an encrypted part turns out to be with a wrong password is not the bags of anything.
func (c contentInfo) open(encrypted encryptedData, password passphrase) (readings pfxPart, err error) {
	var plain plaintexts
	wrong := errNotDER
	switch {
	case c.ID.Equal(oidData):
		plain = plaintexts{octets(c.Content.Bytes)}
	case c.ID.Equal(oidEncryptedData):
		wrong = errWrongPassword
		if plain, err = decrypt(encrypted.Info.Algorithm, encrypted.Info.Data, password); err != nil {
			return nil, err
		}
	}
	for _, der := range plain {
		var bags []safeBag
		if unmarshal(der, &bags) == nil {
			readings = append(readings, bags)
		}
	}
	if len(readings) == 0 {
		return nil, wrong
	}
	return readings, nil
}

// The object identifiers of what the files are made of.
var (
	oidData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKeyBag = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidLocalKeyID     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidPBMAC1         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
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
