// Package fileset reads a volume whose files change together: those of keyvault-csi.io, and of a ConfigMap.
//
// The link ..data of such a volume leads to the folder with the files of one version. A set is read from one such folder, so it never
// holds files of two versions. The package must not know what the files are for.
package fileset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const dataLink = "..data"

// attempts bounds how often a set is read again because it was replaced meanwhile.
const attempts = 10

// Set is the files of one version. Its files may hold secrets: print nothing of it but Version and Time.
type Set struct {
	// Version is the name of the folder that held the files.
	Version string
	// Time is the time of that folder: in a volume of keyvault-csi.io the time when the oldest of its objects was fetched.
	Time time.Time

	files map[string][]byte
}

// File returns the content of the file at the path. The error is about a file that is missing or cannot be read, and holds no content.
func (s Set) File(path string) ([]byte, error) {
	content, ok := s.files[path]
	if !ok {
		return nil, fmt.Errorf("the volume has no file %q", path)
	}
	return content, nil
}

// Read reads the files at the paths; a file that does not exist is left out. limit bounds the size of all.
func Read(volume string, paths []string, limit int64) (Set, error) {
	var err error
	for range attempts {
		var set Set
		if set, err = readOnce(volume, paths, limit); err == nil {
			return set, nil
		}
		if !errors.Is(err, errReplaced) {
			break
		}
	}
	return Set{}, err
}

// Version returns the version that the volume has now.
func Version(volume string) (string, error) {
	name, err := os.Readlink(filepath.Join(volume, dataLink))
	if err != nil {
		return "", fmt.Errorf("%s is not a volume whose files change together: %w", volume, err)
	}
	return name, nil
}

var errReplaced = errors.New("its files were replaced while they were read")

func readOnce(volume string, paths []string, limit int64) (set Set, err error) {
	set.Version, err = Version(volume)
	if err != nil {
		return Set{}, err
	}
	// A Root follows no link that leads out of the folder, whatever the paths say.
	root, err := os.OpenRoot(filepath.Join(volume, set.Version))
	if errors.Is(err, fs.ErrNotExist) {
		return Set{}, errReplaced
	} else if err != nil {
		return Set{}, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, err := root.Stat(".")
	if err != nil {
		return Set{}, err
	}
	set.Time, set.files = info.ModTime(), make(map[string][]byte, len(paths))
	for _, path := range paths {
		if _, ok := set.files[path]; ok {
			continue
		}
		content, err := readFile(root, path, limit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return Set{}, fmt.Errorf("%s: %w", volume, err)
		}
		if limit -= int64(len(content)); limit < 0 {
			return Set{}, fmt.Errorf("%s: the files for the Secrets are too large together", volume)
		}
		set.files[path] = content
	}
	// The driver removes the folder after it has replaced it, so a file of the old version may be missing.
	if now, err := Version(volume); err != nil {
		return Set{}, err
	} else if now != set.Version {
		return Set{}, errReplaced
	}
	return set, nil
}

func readFile(root *os.Root, path string, limit int64) ([]byte, error) {
	info, err := root.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is too large", path)
	}
	return root.ReadFile(path)
}
