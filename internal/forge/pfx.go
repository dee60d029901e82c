// Package forge makes certificates, keys and PKCS#12 files that no tool would write: the gifts of somebody who may write to
// a vault and wishes its readers ill. Tests use it, nothing else.
package forge

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// PFX is a PKCS#12 file (RFC 7292) without a password that asks for a lot of work before it shows that it holds nothing.
// Only Outer is work for its maker, too.
type PFX struct {
	MAC   int64 // iterations of the key derivation of the MAC; 0 leaves the MAC out
	Outer int   // of that of its part, which is encrypted; at least 1
	Inner int64 // of that of the key in that part, which is encrypted once more
	Bulk  int   // bytes of a bag of no known type in that part
}

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidShroudedKey   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidUnknownBag    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 99}
	oidPBES2         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256    = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

type (
	contentInfo struct {
		ID      asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	bag struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	encrypted struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
)

// DER writes the file.
func (p PFX) DER() []byte {
	key := encrypted{pbes2(p.Inner), bytes.Repeat([]byte{7}, 64)}
	bags := []bag{{oidShroudedKey, explicit(der(key))}}
	if p.Bulk > 0 {
		bags = append(bags, bag{oidUnknownBag, explicit(der(make([]byte, p.Bulk)))})
	}
	part := der(struct {
		Version int
		Info    struct {
			ID        asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      asn1.RawValue
		}
	}{Info: struct {
		ID        asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      asn1.RawValue
	}{oidData, pbes2(int64(p.Outer)), asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: encrypt(der(bags), p.Outer)}}})
	safe := contentInfo{oidData, explicit(der(der([]contentInfo{{oidEncryptedData, explicit(part)}})))}
	if p.MAC == 0 {
		return der(struct {
			Version int
			Safe    contentInfo
		}{3, safe})
	}
	type digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	type mac struct {
		MAC        digest
		Salt       []byte
		Iterations int64
	}
	return der(struct {
		Version int
		Safe    contentInfo
		MAC     mac
	}{3, safe, mac{digest{pkix.AlgorithmIdentifier{Algorithm: oidSHA256}, make([]byte, sha256.Size)}, salt(), p.MAC}})
}

func salt() []byte { return []byte("saltsalt") }

func pbes2(iterations int64) pkix.AlgorithmIdentifier {
	derivation := pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: der(struct {
		Salt       []byte
		Iterations int64
		PRF        pkix.AlgorithmIdentifier
	}{salt(), iterations, pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256}})}}
	cipher := pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: der(make([]byte, aes.BlockSize))}}
	return pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: der([]pkix.AlgorithmIdentifier{derivation, cipher})}}
}

// encrypt is PBES2 with the empty password.
func encrypt(plain []byte, iterations int) []byte {
	key, err := pbkdf2.Key(sha256.New, "", salt(), iterations, 32)
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	iv := make([]byte, aes.BlockSize)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded) //nolint:gosec // G407: there is nothing to hide
	return padded
}

func explicit(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: content}
}

// der panics where the types above are wrong, which no input changes.
func der(value any) []byte {
	b, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return b
}
