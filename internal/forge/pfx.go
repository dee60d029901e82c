// Package forge makes hostile certificates, keys and PKCS#12 files, as an attacker with the right to write to a vault can.
// Only tests use it.
package forge

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // G505: the key derivation for RC2 uses it
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/keyvault-csi/keyvault-csi/internal/rc2"
)

// PFX is a PKCS#12 file (RFC 7292) that takes a lot of CPU time to read and holds nothing. Only Outer takes as much time to
// write.
type PFX struct {
	MAC    int64 // iterations of the key derivation of the MAC; 0 means no MAC
	PBMAC1 int64 // iterations of the key derivation of a MAC of RFC 9579, which replaces MAC
	Outer  int   // iterations for the encrypted part; at least 1
	Inner  int64 // iterations for the key in that part, which is encrypted as well
	Bulk   int   // bytes of a bag of an unknown type in that part
	RC2    int   // bits of the RC2 key of that part, 40 or 128; 0 means AES
	Odd    bool  // the salt of the key in that part has tag 4, like an OCTET STRING, but another class

	// Password is the password of the file, except for RC2. With a password, a MAC by PBMAC1 is correct, because readers stop
	// at a wrong one.
	Password string
}

var (
	oidData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidShroudedKey    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidUnknownBag     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 99}
	oidPBES2          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256     = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidRC2With128Bits = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 5}
	oidRC2With40Bits  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 6}
	oidPBMAC1         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidSHA256         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
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

// DER returns the file.
func (p PFX) DER() []byte {
	inner := asn1.RawValue{Tag: asn1.TagOctetString, Bytes: salt()}
	if p.Odd {
		inner.Class = asn1.ClassContextSpecific
	}
	key := encrypted{pbes2(inner, p.Inner), bytes.Repeat([]byte{7}, 64)}
	bags := []bag{{oidShroudedKey, explicit(der(key))}}
	if p.Bulk > 0 {
		bags = append(bags, bag{oidUnknownBag, explicit(der(make([]byte, p.Bulk)))})
	}
	algorithm, data := p.encrypt(der(bags))
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
	}{oidData, algorithm, asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: data}}})
	parts := der([]contentInfo{{oidEncryptedData, explicit(part)}})
	safe := contentInfo{oidData, explicit(der(parts))}
	if p.MAC == 0 && p.PBMAC1 == 0 {
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
	}{3, safe, mac{digest{p.mac(), p.sum(parts)}, salt(), p.MAC}})
}

const macKeySize = 64

func (p PFX) sum(parts []byte) []byte {
	if p.Password == "" || p.PBMAC1 == 0 {
		return make([]byte, sha256.Size)
	}
	key, err := pbkdf2.Key(sha1.New, p.Password, salt(), int(p.PBMAC1), macKeySize)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(parts)
	return mac.Sum(nil)
}

// mac returns the algorithm of the MAC. PBMAC1 includes the key derivation, here the slowest one.
func (p PFX) mac() pkix.AlgorithmIdentifier {
	if p.PBMAC1 == 0 {
		return pkix.AlgorithmIdentifier{Algorithm: oidSHA256}
	}
	derivation := pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: der(struct {
		Salt       []byte
		Iterations int64
		KeyLength  int
	}{salt(), p.PBMAC1, macKeySize})}} // SHA-1, the default, is omitted
	return pkix.AlgorithmIdentifier{Algorithm: oidPBMAC1, Parameters: asn1.RawValue{FullBytes: der([]pkix.AlgorithmIdentifier{
		derivation, {Algorithm: oidHMACSHA256},
	})}}
}

func salt() []byte { return []byte("saltsalt") }

func pbes2(salt asn1.RawValue, iterations int64) pkix.AlgorithmIdentifier {
	derivation := pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: der(struct {
		Salt       asn1.RawValue
		Iterations int64
		PRF        pkix.AlgorithmIdentifier
	}{salt, iterations, pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256}})}}
	cipher := pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: der(make([]byte, aes.BlockSize))}}
	return pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: der([]pkix.AlgorithmIdentifier{derivation, cipher})}}
}

func (p PFX) encrypt(plain []byte) (algorithm pkix.AlgorithmIdentifier, encrypted []byte) {
	switch p.RC2 {
	case 0:
		key, err := pbkdf2.Key(sha256.New, p.Password, salt(), p.Outer, 32)
		if err != nil {
			panic(err)
		}
		iv := make([]byte, aes.BlockSize)
		return pbes2(asn1.RawValue{FullBytes: der(salt())}, int64(p.Outer)), encryptCBC(aes.NewCipher, key, iv, plain) //nolint:gosec // G407: nothing secret
	case 40:
		algorithm.Algorithm = oidRC2With40Bits
	case 128:
		algorithm.Algorithm = oidRC2With128Bits
	default:
		panic("no such RC2")
	}
	algorithm.Parameters.FullBytes = der(struct {
		Salt       []byte
		Iterations int
	}{salt(), p.Outer})
	const forKey, forIV = 1, 2
	return algorithm, encryptCBC(rc2.New, p.derive(forKey)[:p.RC2/8], p.derive(forIV)[:rc2.BlockSize], plain)
}

// derive returns the first block of the key derivation of RFC 7292 appendix B.2, for the empty password.
func (p PFX) derive(purpose byte) []byte {
	input := bytes.Repeat([]byte{purpose}, sha1.BlockSize)
	input = append(input, bytes.Repeat(salt(), sha1.BlockSize/len(salt()))...)
	input = append(input, make([]byte, sha1.BlockSize)...)
	for range p.Outer {
		sum := sha1.Sum(input) //nolint:gosec // G401: see the import
		input = sum[:]
	}
	return input
}

func encryptCBC(newCipher func([]byte) (cipher.Block, error), key, iv, plain []byte) []byte {
	block, err := newCipher(key)
	if err != nil {
		panic(err)
	}
	padding := block.BlockSize() - len(plain)%block.BlockSize()
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...) //nolint:gosec // G115: at most 16
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	return padded
}

func explicit(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: content}
}

// der panics only if the types above are wrong, whatever the input.
func der(value any) []byte {
	b, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return b
}
