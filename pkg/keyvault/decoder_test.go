package keyvault_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/forge"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// setPFX stores a PKCS#12 file in the vault as the secret behind a certificate.
func (w *fixture) setPFX(name string, content []byte) {
	w.vault.SetSecret(name, base64.StdEncoding.EncodeToString(content), devcloud.SecretOptions{ContentType: devcloud.PKCS12, Managed: true})
}

// An unchanged certificate is decoded once while a volume has it, however often it is fetched.
func TestUnchangedCertificatesAreDecodedOnce(t *testing.T) {
	t.Parallel()
	for file, decodings := range map[string]int{
		"certificate/testdata/pfx/rsa-2048.pfx":  1,
		"certificate/testdata/pfx/secp256k1.pfx": 1,
		"certificate/testdata/pem/rsa-2048.pem":  2, // and the PKCS#12 file is made once
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			r := w.asServicePrincipal(allParts(w.addFile(file)))
			want := w.fetch(first("one", r))
			for i := range 3 {
				w.later(interval + time.Minute)
				w.client.Tidy()
				w.ResetCounts()
				if got := w.fetch(refresh("one", r)); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("refresh %d gives other files", i)
				}
				w.fetch(first("two", r))
				if n := w.gets(); n != 2 {
					t.Errorf("refresh %d: %d requests, want 2", i, n)
				}
				w.client.Forget("two")
			}
			if n := w.client.Decodings(); n != decodings {
				t.Errorf("%d decodings, want %d", n, decodings)
			}
		})
	}
}

// A changed certificate is decoded again, and the old one is dropped.
func TestAChangedCertificateIsDecoded(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	r := w.asServicePrincipal(only(allParts("a"), volume.PartCert))
	for i, file := range []string{"rsa-2048", "ec-p256", "ed25519"} {
		w.setPFX("a", read(t, "certificate/testdata/pfx/"+file+".pfx"))
		w.later(time.Hour)
		_, want, _ := parts(string(read(t, "certificate/testdata/pfx/"+file+".pem")))
		if got := w.fetch(refresh("one", r))["cert"]; got != want {
			t.Errorf("%s: got %s", file, got)
		}
		if n := w.client.Decodings(); n != i+1 {
			t.Errorf("%s: %d decodings, want %d", file, n, i+1)
		}
	}
}

// A certificate that cannot be decoded is not decoded again at each call of the kubelet.
func TestABadCertificateIsTriedOnce(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.setPFX("a", forge.PFX{MAC: 2048, Outer: 2048, Inner: 2048}.DER())
	r := w.asServicePrincipal(allParts("a"))
	for range 3 {
		w.fails(first("one", r), volume.ErrPrecondition,
			`objects[0]: certificate "a" of https://shop.vault.azure.net is not a readable PKCS#12 file without a password`)
		w.later(2 * time.Minute)
		w.client.Tidy()
	}
	if n := w.client.Decodings(); n != 1 {
		t.Errorf("%d decodings, want 1", n)
	}
}

// The key derivation of a client certificate runs once, even if the password is wrong.
func TestAClientCertificateIsDecodedOnce(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for range 3 {
		w.fails(byCertificate(loginFile(t, "modern-password.pfx"), "wrong"), volume.ErrInvalid,
			asSP+"nodePublishSecretRef[clientcertificate] cannot be decrypted: the password is wrong or missing")
		w.later(2 * time.Minute)
	}
	if n := w.client.Decodings(); n != 1 {
		t.Errorf("%d decodings, want 1", n)
	}
}
