package devcloud

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// newVersion returns a random version like those of Key Vault: 32 hex digits.
func newVersion() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// newGUID returns a random UUID (RFC 9562, version 4).
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return guid(b)
}

func guid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// stableGUID returns a UUID that depends only on the words.
func stableGUID(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return guid([16]byte(sum[:16]))
}
