package keyvault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

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

// checkBundle: what can be taken apart has a leaf and a key, in every order all its certificates, and each part once.
func checkBundle(t *testing.T, b *bundle) {
	t.Helper()
	der, err := b.marshal()
	if err != nil {
		t.Fatal(err)
	}
	remembered, err := unmarshalBundle(der)
	if err != nil || !reflect.DeepEqual(remembered.certs, b.certs) || !reflect.DeepEqual(remembered.key, b.key) {
		t.Errorf("another bundle is remembered: %v", err)
	}
	if b.opaque != nil {
		return
	}
	if len(b.certs) == 0 || b.key.block == nil {
		t.Fatal("a bundle without a key or a certificate")
	}
	for _, order := range []volume.ChainOrder{volume.ChainOrderChain, volume.ChainOrderPFX, volume.ChainOrderReverse} {
		chain := b.ordered(order)
		if len(chain) != len(b.certs) || !bytes.Equal(chain[0].der, b.certs[0].der) {
			t.Errorf("%s: %d of %d certificates", order, len(chain), len(b.certs))
		}
	}
	if key, err := b.key.pem("pkcs8"); err != nil || len(key) == 0 {
		t.Errorf("no key: %v", err)
	}
}

func FuzzPKCS12(f *testing.F) {
	seeds(f, "testdata/pfx/*.pfx")
	f.Fuzz(func(t *testing.T, content []byte) {
		var b *bundle
		err := guarded(func() (err error) {
			b, err = splitPFX(content)
			return err
		})
		if err == nil {
			checkBundle(t, b)
		}
	})
}

func FuzzPEM(f *testing.F) {
	seeds(f, "testdata/pem/*.pem")
	f.Fuzz(func(t *testing.T, content []byte) {
		if b, err := splitPEM(content); err == nil {
			checkBundle(t, b)
		}
	})
}

// Iterations that lie open are found wherever they stand, and no fixture has too many by mistake.
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
		began := time.Now()
		_, err = openPFX(content, nil)
		if got, want := errors.Is(err, errSlow), filepath.Base(path) == "iterations.pfx"; got != want {
			t.Errorf("%s: %v", path, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: looked at for %v", path, took)
		}
	}
}
