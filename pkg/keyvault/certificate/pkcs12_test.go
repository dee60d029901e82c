package certificate

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func seeds(f *testing.F, pattern string) {
	f.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
}

// checkBundle checks that a bundle has a leaf, keeps all its certificates in every order, and can write
// each part.
func checkBundle(t *testing.T, b *Bundle) {
	t.Helper()
	if len(b.certs) == 0 {
		if b.pfx == nil {
			t.Fatal("a bundle of nothing")
		}
		return
	}
	parts := []volume.Part{volume.PartCert, volume.PartChain}
	withKey := []volume.Part{volume.PartKey, volume.PartPEM}
	if b.key != nil {
		parts = append(parts, withKey...)
	} else {
		for _, part := range append(withKey, volume.PartPFX) {
			if _, err := b.Part(part, volume.ChainOrderChain, volume.PKCS8); !errors.Is(err, ErrNoKey) {
				t.Errorf("%s without a key: %v", part, err)
			}
		}
	}
	for _, order := range []volume.ChainOrder{volume.ChainOrderChain, volume.ChainOrderPFX, volume.ChainOrderReverse} {
		chain := b.ordered(order)
		if len(chain) != len(b.certs) || !bytes.Equal(chain[0], b.certs[0]) {
			t.Errorf("%s: %d of %d certificates", order, len(chain), len(b.certs))
		}
	}
	for _, part := range parts {
		if data, err := b.Part(part, volume.ChainOrderChain, volume.PKCS8); err != nil || len(data) == 0 {
			t.Errorf("no %s: %v", part, err)
		}
	}
}

func FuzzPKCS12(f *testing.F) {
	seeds(f, "testdata/pfx/*.pfx")
	f.Fuzz(func(t *testing.T, content []byte) {
		if b, err := splitPFX(content); err == nil {
			checkBundle(t, b)
		}
	})
}

func FuzzPEM(f *testing.F) {
	seeds(f, "testdata/pem/*.pem")
	f.Fuzz(func(t *testing.T, content []byte) {
		if b, err := splitPEM(content); err == nil {
			checkBundle(t, b)
			if begun := bytes.Count(content, []byte(beginCert)); len(b.certs) < begun {
				t.Errorf("%d of %d certificates", len(b.certs), begun)
			}
		}
	})
}

// One of the files has too many iterations, and only that one is refused for them.
func TestSlowFilesAreFound(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/pfx/*.pfx")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = splitPFX(content)
		if got, want := errors.Is(err, errSlow), filepath.Base(path) == "iterations.pfx"; got != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
