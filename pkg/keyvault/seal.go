package keyvault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
)

// content is something to be decoded for a namespace. Half of its HMAC names it, and the other half seals what it became:
// nobody but who has the content again can read what is remembered of it.
type content struct {
	contentKey
	seal [sha512.Size / 2]byte
}

// contentKey names a content among those of its namespace.
type contentKey struct {
	namespace string
	digest    [sha512.Size / 2]byte
}

func (c *Client) content(namespace string, parts ...[]byte) content {
	mac := hmac.New(sha512.New, c.macKey[:])
	for _, part := range parts {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part)))
		mac.Write(part)
	}
	found := content{contentKey: contentKey{namespace: namespace}}
	sum := mac.Sum(nil)
	copy(found.digest[:], sum)
	copy(found.seal[:], sum[len(found.digest):])
	return found
}

func (c content) sealed(plain []byte) []byte {
	return c.aead().Seal(nil, nil, plain, nil) //nolint:gosec // G407: it takes none, but makes a random one
}

func (c content) opened(sealed []byte) ([]byte, error) { return c.aead().Open(nil, nil, sealed, nil) }

// aead has no errors but for a key of another length.
func (c content) aead() cipher.AEAD {
	block, err := aes.NewCipher(c.seal[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}
