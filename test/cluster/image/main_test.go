package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRun packs one file twice, at different times and with other modes, and looks at what every runtime reads first.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	var archives [2][]byte
	for i, mode := range []os.FileMode{0o700, 0o755} {
		if err := os.WriteFile(program, []byte("#!"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(program, mode); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "image.tar")
		if err := run("localhost/x:dev", out, "/bin/x", "65532:65532", "amd64", []string{program + ":/bin/x", ":/tmp"}); err != nil {
			t.Fatal(err)
		}
		var err error
		if archives[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("equal files gave different archives")
	}
	content := read(t, archives[0])
	if !bytes.Contains(content["manifest.json"], []byte(`"RepoTags":["localhost/x:dev"]`)) {
		t.Errorf("manifest.json is %s", content["manifest.json"])
	}
	for name, data := range content {
		if strings.HasSuffix(name, ".json") && name != "manifest.json" && !bytes.Contains(data, []byte(`"User":"65532:65532"`)) {
			t.Errorf("the configuration is %s", data)
		}
	}
	if end := make([]byte, 1024); len(content["layer.tar"])%512 != 0 || !bytes.HasSuffix(content["layer.tar"], end) {
		t.Error("the layer has no end")
	}
	layer := read(t, content["layer.tar"])
	var names []string
	for name := range layer {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"bin/", "bin/x", "tmp/"}; !slices.Equal(names, want) {
		t.Errorf("the layer holds %q, want %q", names, want)
	}
}

func read(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if err != nil {
			return found
		}
		var data bytes.Buffer
		if _, err := data.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		found[header.Name] = data.Bytes()
	}
}
