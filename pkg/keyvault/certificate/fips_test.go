package certificate

import (
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fipsOnly runs the test again as a process in the strict FIPS mode, and reports whether this process is in it.
func fipsOnly(t *testing.T) bool {
	t.Helper()
	if fips140.Enforced() {
		return true
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	again.Env = append(os.Environ(), "GODEBUG=fips140=only")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("with GODEBUG=fips140=only: %v\n%s", err, out)
	}
	return false
}

// In FIPS mode, a file is read or refused with the reason. Nothing panics, which would end the daemon. Most files are refused
// for the salt: up to OpenSSL 3.1 it has 8 bytes.
func TestFIPSReads(t *testing.T) {
	t.Parallel()
	if !fipsOnly(t) {
		return
	}
	others := map[string]error{
		"null-plain.pfx": nil, "plain-mac.pfx": nil, // not encrypted, MAC with SHA-256 or none
		"iterations.pfx": errSlow, "password.pfx": errBrokenPFX, "encrypted.pem": errEncryptedKey,
	}
	files, err := filepath.Glob("testdata/p[ef][mx]/*.p[ef][mx]")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read, want := splitPEM, error(nil)
		if filepath.Ext(file) == ".pfx" {
			read, want = splitPFX, errFIPS
		}
		if other, ok := others[filepath.Base(file)]; ok {
			want = other
		}
		if _, err := read(content); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", file, err, want)
		}
	}
}

// What the driver writes itself can be read in FIPS mode, except the legacy profile, which uses 3DES.
func TestFIPSWrites(t *testing.T) {
	t.Parallel()
	if !fipsOnly(t) {
		return
	}
	content, err := os.ReadFile("testdata/pem/rsa-2048.pem")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := splitPEM(content)
	if err != nil {
		t.Fatal(err)
	}
	for profile, want := range map[volume.PFXProfile]error{volume.PFXModern: nil, volume.PFXLegacy: errFIPSLegacy} {
		file, err := bundle.Protect(volume.ChainOrderChain, Protection{Password: volume.NewSecret([]byte("the password")), Profile: profile, Alias: "x"})
		if !errors.Is(err, want) {
			t.Errorf("pfxProfile %s: %v, want %v", profile, err, want)
		}
		if want == nil {
			if _, _, err := ParseClient(file, []byte("the password")); err != nil {
				t.Errorf("pfxProfile %s cannot be read: %v", profile, err)
			}
		}
	}
	file, err := bundle.Part(volume.PartPFX, volume.ChainOrderChain, volume.PKCS8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := splitPFX(file); err != nil {
		t.Errorf("a PFX without a password cannot be read: %v", err)
	}
}

// A client certificate is used for a signature, so the size of its key counts too.
func TestFIPSClient(t *testing.T) {
	t.Parallel()
	if !fipsOnly(t) {
		return
	}
	for file, want := range map[string]error{
		"plain.pem": nil, "pkcs1.pem": nil, "legacy-password.pfx": errFIPSCertificate, "des3-password.pem": errFIPSCertificate,
	} {
		content, err := os.ReadFile(filepath.Join("testdata/login", file))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ParseClient(content, []byte("the password")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", file, err, want)
		}
	}
	short := shortRSA(t)
	if _, _, err := ParseClient(short, nil); !errors.Is(err, errFIPSShortKey) {
		t.Errorf("1024 bits: %v, want %v", err, errFIPSShortKey)
	}
	// A pod's certificate is only copied.
	if _, err := splitPEM(short); err != nil {
		t.Errorf("1024 bits for a pod: %v", err)
	}
}

// shortRSA makes a certificate with a key of 1024 bits, and its key, as PEM.
func shortRSA(t *testing.T) (text []byte) {
	t.Helper()
	fips140.WithoutEnforcement(func() {
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "short"}}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	})
	return text
}
