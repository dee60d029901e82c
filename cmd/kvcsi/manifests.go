package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
)

var errNoManifests = errors.New("name the manifests with -f FILE, -f FOLDER or -f -")

// manifestNames is the flag -f, which may be repeated.
type manifestNames []string

func (n *manifestNames) String() string { return strings.Join(*n, ",") }

func (n *manifestNames) Set(name string) error {
	if name == "" {
		return errors.New("names no file")
	}
	*n = append(*n, name)
	return nil
}

// read returns the named files: a file, all manifests below a folder, or standard input for "-".
func (n *manifestNames) read(stdin io.Reader) (files []migrate.File, err error) {
	read := map[string]bool{} // a file that is named twice would hold each class twice
	for _, name := range *n {
		if name == "-" {
			data, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("standard input: %w", err)
			}
			files = append(files, migrate.File{Name: name, Data: data})
			continue
		}
		found := false
		name = filepath.Clean(name)
		err := filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() || path != name && !isManifest(path):
				return nil
			}
			found = true
			if read[path] {
				return nil
			}
			read[path] = true
			data, err := os.ReadFile(path) //nolint:gosec // the user names the files
			files = append(files, migrate.File{Name: path, Data: data})
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case !found:
			return nil, fmt.Errorf("%s: holds no file that ends with .yaml, .yml or .json", name)
		}
	}
	return files, nil
}

func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
