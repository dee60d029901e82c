package certificate

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
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

// Java writes EC keys without their public half, which is optional (RFC 5915). The Azure provider writes it.
func TestKeyWithItsPublicHalf(t *testing.T) {
	t.Parallel()
	for name, differs := range map[string]bool{"ec-p256-bare": true, "ec-p256": false, "rsa-2048": false, "secp256k1-bare": false} {
		file, err := os.ReadFile("testdata/pfx/" + name + ".pfx")
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := splitPFX(file)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := bundle.Part(volume.PartPEM, volume.ChainOrderFile, volume.PKCS8)
		if err != nil {
			t.Fatal(err)
		}
		written, err := bundle.Part(volume.PartPEMOrValue, volume.ChainOrderFile, volume.PKCS8)
		if err != nil {
			t.Fatal(err)
		}
		if !differs {
			if !bytes.Equal(stored, written) {
				t.Errorf("%s: the key changed", name)
			}
			continue
		}
		block, chain := pem.Decode(stored)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if block.Bytes, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
		if want := append(pem.EncodeToMemory(block), chain...); bytes.Equal(stored, written) || !bytes.Equal(written, want) {
			t.Errorf("%s: the key is not as crypto/x509 writes it", name)
		}
	}
}
