package main

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const root = "../.."

// depguard (.golangci.yml) judges each import. This test shows every change, also one that is allowed.
func TestThePictureIsOfTheCode(t *testing.T) {
	t.Parallel()
	g, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(filepath.Join(root, picture))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), g.svg()); diff != "" {
		t.Errorf("%s (-committed +code):\n%s\nThe imports of the daemon have changed. If they should, run: go run ./test/imports", picture, diff)
	}
}

// depguard does not see what the daemon links through others.
func TestWhatTheDaemonNeverLinks(t *testing.T) {
	t.Parallel()
	g, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{
		"pkg/devcloud", "pkg/migrate", "internal/aging", "internal/forge", "internal/kubelet", "internal/mountns", "internal/suite",
	} {
		if _, err := os.Stat(filepath.Join(root, never)); err != nil {
			t.Errorf("this test names a package that is gone: %v", err)
		}
		if _, linked := g[never]; linked {
			t.Errorf("the daemon links %s, which is for kvcsi and tests", never)
		}
	}

	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) == 0 {
		t.Fatalf("%s names no modules", binary)
	}
	for _, m := range info.Deps {
		for _, never := range []string{"k8s.io/client-go", "k8s.io/api", "k8s.io/apimachinery", "github.com/spf13/cobra", "github.com/aymanbagabas/go-udiff"} {
			if m.Path == never || strings.HasPrefix(m.Path, never+"/") {
				t.Errorf("the daemon links %s", m.Path)
			}
		}
	}
}
