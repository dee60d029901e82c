package keyvault

import (
	"bytes"
	"crypto/des"  //nolint:gosec // G502: what older PKCS#12 files are encrypted with
	"crypto/sha1" //nolint:gosec // G505: and what their keys are derived with
	"crypto/x509/pkix"
	"encoding/asn1"
)

// pbeWithSHAAnd3-KeyTripleDES-CBC of RFC 7292 appendix C.
var oidTripleDES = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}

// decryptBags undoes the encryption, with an empty password, of a part of a PKCS#12 file and reads what comes out. RC2
// is not known: it has hardly lived to see a key that Go does not know.
func decryptBags(algorithm pkix.AlgorithmIdentifier, data []byte, into any) error {
	if algorithm.Algorithm.Equal(oidTripleDES) {
		return decryptTripleDES(algorithm.Parameters.FullBytes, data, into)
	}
	der, err := asn1.Marshal(encryptedPrivateKeyInfo{algorithm, data})
	if err != nil {
		return errNotDER
	}
	plain, err := decryptPKCS8(der, nil)
	if err != nil {
		return err
	}
	return unmarshal(plain, into)
}

func decryptTripleDES(parameters, data []byte, into any) error {
	var derivation struct {
		Salt       []byte
		Iterations int
	}
	if err := unmarshal(parameters, &derivation); err != nil {
		return err
	}
	if derivation.Iterations > maxIterations {
		return errSlow
	}
	// An empty password is the two zero bytes that end a string, or none at all.
	for _, password := range [][]byte{{0, 0}, {}} {
		derive := func(purpose byte, size int) []byte {
			return deriveSHA1(purpose, derivation.Salt, password, derivation.Iterations, size)
		}
		plain, err := decryptCBC(des.NewTripleDESCipher, derive(deriveKey, 24), derive(deriveIV, des.BlockSize), data)
		if err == nil && unmarshal(plain, into) == nil {
			return nil
		}
	}
	return errNotDER
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
