package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// TestRun makes one image twice, with other modes of the files, and reads what every runtime reads.
func TestRun(t *testing.T) {
	t.Parallel()
	var digests []v1.Hash
	for _, mode := range []os.FileMode{0o600, 0o755} {
		dir := t.TempDir()
		for name, content := range map[string]string{"x-amd64": "one", "x-arm64": "two", "licenses/LICENSE": "text"} {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(content), mode)); err != nil {
				t.Fatal(err)
			}
		}
		s := spec{name: "x", version: "v1.2.3", user: "1:2", licenses: filepath.Join(dir, "licenses"), created: time.Unix(1e9, 0).UTC()}
		out := filepath.Join(dir, "out")
		if err := run(s, out, []string{"linux/amd64=" + filepath.Join(dir, "x-amd64"), "linux/arm64=" + filepath.Join(dir, "x-arm64")}); err != nil {
			t.Fatal(err)
		}
		index, err := layout.ImageIndexFromPath(out)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
		checkIndex(t, index)
	}
	if digests[0] != digests[1] {
		t.Errorf("equal contents gave %s and %s", digests[0], digests[1])
	}
}

func checkIndex(t *testing.T, index v1.ImageIndex) {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if c := config.Config; config.Architecture != m.Platform.Architecture || c.User != "1:2" || !slices.Equal(c.Entrypoint, []string{"/x"}) ||
			c.Labels["org.opencontainers.image.version"] != "v1.2.3" {
			t.Errorf("%s: the configuration is %+v", m.Platform, config)
		}
		checkEnd(t, image)
		if got, want := names(t, image), []string{"x", "licenses/", "licenses/LICENSE"}; !slices.Equal(got, want) {
			t.Errorf("%s: holds %q, want %q", m.Platform, got, want)
		}
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms %q, want %q", platforms, want)
	}
}

// checkEnd: an archive ends with 1,024 zeros. Some readers do without, others call it truncated.
func checkEnd(t *testing.T, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	layer, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(layer)%512 != 0 || !bytes.HasSuffix(layer, make([]byte, 1024)) {
		t.Errorf("the layer of %d bytes has no end", len(layer))
	}
}

func names(t *testing.T, image v1.Image) (found []string) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(layers, err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found = append(found, header.Name)
	}
}
