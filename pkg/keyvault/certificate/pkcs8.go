package certificate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // G502: what was encrypted with it has to be read
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // G505: the default of PBKDF2 (RFC 8018, appendix A.2)
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"
)

// The structures of RFC 5958 and RFC 8018 around an encrypted private key.
type (
	encryptedPrivateKeyInfo struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Parameters struct {
		KeyDerivation, Encryption pkix.AlgorithmIdentifier
	}
	pbkdf2Parameters struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// prf is the hash of PBKDF2's HMAC by the identifier in RFC 8018, appendix B.1.2.
func prf(oid string) func() hash.Hash {
	return map[string]func() hash.Hash{
		"":                    sha1.New, // left out
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.8":  sha256.New224,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New,
	}[oid]
}

// blockCipher is an algorithm in CBC mode by its identifier (RFC 8018, appendix B.2; NIST).
func blockCipher(oid string) (keyLength int, newCipher func([]byte) (cipher.Block, error)) {
	switch oid {
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	}
	return 0, nil
}

// decryptPKCS8 opens an "ENCRYPTED PRIVATE KEY": PBES2 with PBKDF2 and a cipher in CBC mode, as openssl writes it.
// Scrypt is not read: its memory is for the writer of the file to choose.
func decryptPKCS8(der, password []byte) ([]byte, error) {
	var info encryptedPrivateKeyInfo
	var scheme pbes2Parameters
	var derivation pbkdf2Parameters
	var iv []byte
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, errNotACertificate
	}
	if !info.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, errUnknownCipher
	}
	if _, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, errNotACertificate
	}
	if !scheme.KeyDerivation.Algorithm.Equal(oidPBKDF2) {
		return nil, errUnknownCipher
	}
	_, errDerivation := asn1.Unmarshal(scheme.KeyDerivation.Parameters.FullBytes, &derivation)
	_, errIV := asn1.Unmarshal(scheme.Encryption.Parameters.FullBytes, &iv)
	newHash := prf(derivation.PRF.Algorithm.String())
	keyLength, newCipher := blockCipher(scheme.Encryption.Algorithm.String())
	switch {
	case errDerivation != nil, errIV != nil, derivation.Iterations < 1:
		return nil, errNotACertificate
	case derivation.Iterations > maxIterations:
		return nil, errSlowCertificate
	case newHash == nil, newCipher == nil:
		return nil, errUnknownCipher
	}
	key, err := pbkdf2.Key(newHash, string(password), derivation.Salt, derivation.Iterations, keyLength)
	if err != nil {
		return nil, errUnknownCipher
	}
	return decryptCBC(newCipher, key, iv, info.Data)
}

// decryptCBC undoes cipher block chaining and the padding of RFC 8018, section 6.1.1. Wrong padding is a wrong password.
func decryptCBC(newCipher func([]byte) (cipher.Block, error), key, iv, data []byte) ([]byte, error) {
	block, err := newCipher(key)
	if err != nil {
		return nil, errUnknownCipher
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errNotACertificate
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > size {
		return nil, errWrongPassword
	}
	for _, b := range plain[len(plain)-padding:] {
		if int(b) != padding {
			return nil, errWrongPassword
		}
	}
	return plain[:len(plain)-padding], nil
}
