package certificate

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // G505: the default of PBKDF2 (RFC 8018 appendix A.2), and of older PKCS#12 files
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"
	"slices"
)

// maxIterations bounds the total iterations of the key derivations in one attempt to read a file. An attempt has
// three or four derivations. A file without a password may take two attempts. Windows uses 2,000 for each, OpenSSL
// 2,048, Java 10,000. 100,000 take some tens of milliseconds.
const maxIterations = 100_000

// deriver derives keys from the password of one file.
type deriver struct {
	text string // the password of PBES2 and PBMAC1 (RFC 8018 section 3)
	bmp  []byte // the password of the derivations of RFC 7292, appendix B.1
	left int64  // remaining iterations

	usedBMP bool // a result depends on bmp
}

func newDeriver(password []byte) *deriver {
	text := string([]rune(string(password))) // invalid UTF-8 becomes U+FFFD, as in go-pkcs12
	return &deriver{text: text, bmp: append(bmp(text), 0, 0), left: maxIterations}
}

// spend counts iterations before they are made.
func (d *deriver) spend(iterations int64) error {
	if iterations > d.left {
		return errSlow
	}
	d.left -= max(iterations, 0)
	return nil
}

// hashOf returns a hash by its identifier, or by its HMAC's (RFC 8017 and RFC 8018, appendices B.1), or nil.
func hashOf(oid asn1.ObjectIdentifier) func() hash.Hash {
	switch oid.String() {
	case "", "1.3.14.3.2.26", "1.2.840.113549.2.7": // SHA-1 is the default of PBKDF2
		return sha1.New
	case "2.16.840.1.101.3.4.2.4", "1.2.840.113549.2.8":
		return sha256.New224
	case "2.16.840.1.101.3.4.2.1", "1.2.840.113549.2.9":
		return sha256.New
	case "2.16.840.1.101.3.4.2.2", "1.2.840.113549.2.10":
		return sha512.New384
	case "2.16.840.1.101.3.4.2.3", "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

var oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

// pbkdf2 derives a key of size bytes; 0 means the size in the parameters. PBKDF2 repeats all iterations for each hash
// length of the key. Scrypt is not supported, because the writer of the file would choose its memory.
func (d *deriver) pbkdf2(kdf pkix.AlgorithmIdentifier, size int) ([]byte, error) {
	var p struct {
		Salt       []byte
		Iterations int64
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if !kdf.Algorithm.Equal(oidPBKDF2) {
		return nil, errUnknownCipher
	}
	if err := unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
		return nil, err
	}
	newHash := hashOf(p.PRF.Algorithm)
	if newHash == nil {
		return nil, errUnknownCipher
	}
	if size == 0 {
		size = p.KeyLength
	}
	if size < 16 || size > sha512.Size || p.Iterations < 1 {
		return nil, errNotDER
	}
	for done := 0; done < size; done += newHash().Size() {
		if err := d.spend(p.Iterations); err != nil {
			return nil, err
		}
	}
	key, err := pbkdf2.Key(newHash, d.text, p.Salt, int(p.Iterations), size)
	if err != nil {
		return nil, errFIPS // its only other errors are about sizes, which are checked above
	}
	return key, nil
}

// The purposes of a key derivation (RFC 7292 appendix B.3).
const (
	forKey = 1
	forIV  = 2
	forMAC = 3
)

// pkcs12KDF is the key derivation of RFC 7292 appendix B.2.
func (d *deriver) pkcs12KDF(newHash func() hash.Hash, purpose byte, salt []byte, iterations int64, size int) (derived []byte) {
	d.usedBMP = true
	h := newHash()
	width := h.BlockSize()
	fill := func(pattern []byte) []byte { // whole blocks
		if len(pattern) == 0 {
			return nil
		}
		length := (len(pattern) + width - 1) / width * width
		return bytes.Repeat(pattern, length/len(pattern)+1)[:length]
	}
	diversifier := bytes.Repeat([]byte{purpose}, width)
	input := append(fill(salt), fill(d.bmp)...)
	for len(derived) < size {
		sum := slices.Concat(diversifier, input)
		for range max(iterations, 1) {
			h.Reset()
			h.Write(sum)
			sum = h.Sum(sum[:0])
		}
		derived = append(derived, sum...)
		addend := fill(sum)[:width]
		for block := range slices.Chunk(input, width) { // block += addend + 1, as big-endian numbers
			carry := 1
			for i := width - 1; i >= 0; i-- {
				carry += int(block[i]) + int(addend[i])
				block[i] = byte(carry) //nolint:gosec // G115: the rest is carried over
				carry >>= 8
			}
		}
	}
	return derived[:size]
}

// macData is the MAC of a PKCS#12 file (RFC 7292 section 4).
type macData struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int64 `asn1:"optional,default:1"`
}

var oidPBMAC1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}

// verify checks the MAC of content. It ignores a missing or unknown MAC: decryption detects a wrong password too.
func (d *deriver) verify(mac macData, content []byte) (err error) {
	algorithm := mac.Digest.Algorithm
	newHash := hashOf(algorithm.Algorithm)
	var key []byte
	switch {
	case fips140.Enforced() && newHash != nil && newHash().Size() == sha1.Size: // which would panic
		return errFIPS
	case algorithm.Algorithm.Equal(oidPBMAC1): // RFC 9579
		var scheme struct{ KeyDerivation, HMAC pkix.AlgorithmIdentifier }
		if err := unmarshal(algorithm.Parameters.FullBytes, &scheme); err != nil {
			return err
		}
		if newHash = hashOf(scheme.HMAC.Algorithm); newHash == nil {
			return errUnknownCipher
		}
		if fips140.Enforced() && newHash().Size() == sha1.Size {
			return errFIPS
		}
		key, err = d.pbkdf2(scheme.KeyDerivation, 0)
	case newHash == nil, len(algorithm.Algorithm) == 0:
		return nil
	default:
		if err = d.spend(mac.Iterations); err == nil {
			key = d.pkcs12KDF(newHash, forMAC, mac.Salt, mac.Iterations, newHash().Size())
		}
	}
	if err != nil {
		return err
	}
	h := hmac.New(newHash, key)
	h.Write(content)
	if !hmac.Equal(h.Sum(nil), mac.Digest.Digest) {
		return errWrongPassword
	}
	return nil
}
