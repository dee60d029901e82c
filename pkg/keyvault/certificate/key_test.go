package certificate

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"testing"
)

// The public key of an X25519 key is known, so that its certificate is found in any order of the file.
func TestPublicKeyOfAKeyThatDoesNotSign(t *testing.T) {
	t.Parallel()
	pair, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newPrivateKey("PRIVATE KEY", der)
	if err != nil {
		t.Fatal(err)
	}
	if public := key.public(); !bytes.Equal(public, pair.PublicKey().Bytes()) {
		t.Errorf("%x, want %x", public, pair.PublicKey().Bytes())
	}
}
