package manifests_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// No key is there twice, also where the values have labels or node labels that the charts set too: kustomize, and what is built on it, refuses
// such a file. The snapshots second-driver and everything have such values.
func TestEachKeyIsThereOnce(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../charts/*/snapshots/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("snapshots: %q, %v", files, err)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		documents := yaml.NewDecoder(file)
		for {
			var document any
			if err := documents.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil { // one that has a key twice
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
