package certificate

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // G502: older files are encrypted with it
	"crypto/fips140"
	"crypto/sha1" //nolint:gosec // G505: the key derivation of older files
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/keyvault-csi/keyvault-csi/internal/rc2"
)

var oidPBES2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}

// encrypted is an EncryptedPrivateKeyInfo (RFC 5958).
type encrypted struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// decrypt decrypts a key or a part of a file. For a wrong password it returns errWrongPassword or random bytes: one
// wrong password in 256 gives valid padding by chance.
func (d *deriver) decrypt(e encrypted) ([]byte, error) {
	if !e.Algorithm.Algorithm.Equal(oidPBES2) {
		return d.decryptPBE(e)
	}
	var scheme struct{ KeyDerivation, Cipher pkix.AlgorithmIdentifier } // RFC 8018 appendix A.4
	var iv []byte
	if unmarshal(e.Algorithm.Parameters.FullBytes, &scheme) != nil || unmarshal(scheme.Cipher.Parameters.FullBytes, &iv) != nil {
		return nil, errNotDER
	}
	keySize, newCipher := blockCipher(scheme.Cipher.Algorithm)
	if newCipher == nil {
		return nil, errUnknownCipher
	}
	key, err := d.pbkdf2(scheme.KeyDerivation, keySize)
	if err != nil {
		return nil, err
	}
	return decryptCBC(newCipher, key, iv, e.Data)
}

// decryptPBE supports the algorithms of RFC 7292 appendix C, which older Windows and OpenSSL use.
func (d *deriver) decryptPBE(e encrypted) ([]byte, error) {
	keySize, newCipher := blockCipher(e.Algorithm.Algorithm)
	if newCipher == nil {
		return nil, errUnknownCipher
	}
	if fips140.Enforced() { // all of them derive the key with SHA-1, which would panic
		return nil, errFIPS
	}
	var p struct {
		Salt       []byte
		Iterations int64
	}
	if err := unmarshal(e.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, err
	}
	if err := d.spend(p.Iterations); err != nil {
		return nil, err
	}
	const ivSize = 8
	key := d.pkcs12KDF(sha1.New, forKey, p.Salt, p.Iterations, keySize)
	iv := d.pkcs12KDF(sha1.New, forIV, p.Salt, p.Iterations, ivSize)
	return decryptCBC(newCipher, key, iv, e.Data)
}

// blockCipher returns a cipher by its identifier: PBES2 (RFC 8018 appendix B.2, NIST) and RFC 7292 appendix C.
func blockCipher(oid asn1.ObjectIdentifier) (keySize int, newCipher func([]byte) (cipher.Block, error)) {
	switch oid.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7", "1.2.840.113549.1.12.1.3":
		return 24, des.NewTripleDESCipher
	case "1.2.840.113549.1.12.1.5":
		return 16, rc2.New
	case "1.2.840.113549.1.12.1.6":
		return 5, rc2.New
	}
	return 0, nil
}

// decryptCBC decrypts cipher block chaining and removes the padding of RFC 8018 section 6.1.1.
func decryptCBC(newCipher func([]byte) (cipher.Block, error), key, iv, data []byte) ([]byte, error) {
	block, err := newCipher(key)
	if err != nil {
		return nil, errFIPS // the size of the key is right, so this is 3DES
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errNotDER
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > size || !bytes.HasSuffix(plain, bytes.Repeat(plain[len(plain)-1:], padding)) {
		return nil, errWrongPassword
	}
	return plain[:len(plain)-padding], nil
}
