package certificate

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"  //nolint:gosec // G502: what older PKCS#12 files are encrypted with
	"crypto/sha1" //nolint:gosec // G505: and what their keys are derived with
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/keyvault-csi/keyvault-csi/internal/rc2"
)

// plaintexts are what an encrypted part may hold: more than one if it is not known which of the forms of an empty password
// is meant.
type plaintexts [][]byte

// unmarshal reads the first that is what it should be.
func (p plaintexts) unmarshal(into any) error {
	for _, plain := range p {
		if unmarshal(plain, into) == nil {
			return nil
		}
	}
	return errNotDER
}

// decrypt undoes the encryption of a part of a PKCS#12 file or of a key in it. It knows all the algorithms that the library
// knows.
func decrypt(algorithm pkix.AlgorithmIdentifier, data []byte, password passphrase) (plaintexts, error) {
	if keyLength, newCipher := pbeCipher(algorithm.Algorithm.String()); newCipher != nil {
		return decryptPBE(newCipher, keyLength, algorithm.Parameters.FullBytes, data, password)
	}
	der, err := asn1.Marshal(encryptedPrivateKeyInfo{algorithm, data})
	if err != nil {
		return nil, errNotDER
	}
	plain, err := decryptPKCS8(der, password.text)
	return plaintexts{plain}, err
}

// pbeCipher is an algorithm in CBC mode by its identifier (RFC 7292 appendix C).
func pbeCipher(oid string) (keyLength int, newCipher func([]byte) (cipher.Block, error)) {
	switch oid {
	case "1.2.840.113549.1.12.1.3":
		return 24, des.NewTripleDESCipher
	case "1.2.840.113549.1.12.1.5":
		return 16, rc2.New
	case "1.2.840.113549.1.12.1.6":
		return 5, rc2.New
	}
	return 0, nil
}

// pbeParameters are those of the algorithms of pbeCipher.
type pbeParameters struct {
	Salt       []byte
	Iterations int
}

func decryptPBE(
	newCipher func([]byte) (cipher.Block, error), keyLength int, parameters, data []byte, password passphrase,
) (found plaintexts, err error) {
	var derivation pbeParameters
	if err := unmarshal(parameters, &derivation); err != nil {
		return nil, err
	}
	if derivation.Iterations > maxIterations {
		return nil, errSlow
	}
	for _, form := range password.bmp {
		derive := func(purpose byte, size int) []byte {
			return deriveSHA1(purpose, derivation.Salt, form, derivation.Iterations, size)
		}
		const blockSize = 8 // of all of them
		if plain, err := decryptCBC(newCipher, derive(deriveKey, keyLength), derive(deriveIV, blockSize), data); err == nil {
			found = append(found, plain)
		}
	}
	if len(found) == 0 {
		return nil, errWrongPassword
	}
	return found, nil
}

// The purposes of RFC 7292 appendix B.3.
const (
	deriveKey = 1
	deriveIV  = 2
)

// deriveSHA1 is the key derivation of RFC 7292 appendix B.2 with SHA-1.
func deriveSHA1(purpose byte, salt, password []byte, iterations, size int) (derived []byte) {
	const width = sha1.BlockSize
	fill := func(pattern []byte) []byte {
		if len(pattern) == 0 {
			return nil
		}
		length := (len(pattern) + width - 1) / width * width
		return bytes.Repeat(pattern, length/len(pattern)+1)[:length]
	}
	diversifier := bytes.Repeat([]byte{purpose}, width)
	input := append(fill(salt), fill(password)...)
	for len(derived) < size {
		sum := sha1.Sum(append(bytes.Clone(diversifier), input...)) //nolint:gosec // G401: see the import
		for range iterations - 1 {
			sum = sha1.Sum(sum[:]) //nolint:gosec // G401: see the import
		}
		derived = append(derived, sum[:]...)
		addend := fill(sum[:])[:width]
		for block := range len(input) / width {
			carry := 1
			for i := width - 1; i >= 0; i-- {
				digit := &input[block*width+i]
				carry += int(*digit) + int(addend[i])
				*digit = byte(carry) //nolint:gosec // G115: the rest is carried over
				carry >>= 8
			}
		}
	}
	return derived[:size]
}
