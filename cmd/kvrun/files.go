package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// dataLink is the link in a volume to the folder with its current files. The kubelet's own volumes have the same one.
const dataLink = "..data"

// attempts is how often a set is read that is replaced meanwhile. Replacements are seconds apart.
const attempts = 10

// file is an --env-file.
type file struct {
	path   string // as on the command line
	volume string // the folder above it that has a link ..data; empty if there is none
	name   string // the path in the volume, or the absolute path
}

type files []file

// set is what all files held at one moment.
type set struct {
	variables []envfile.Variable // of all files, in their order
	digest    [sha256.Size]byte  // of every file of all volumes
}

// errReplaced is returned if a volume was replaced while it was read.
var errReplaced = errors.New("its volume was replaced each time that it was read")

// locate finds the volumes of the files. The files need not exist.
func locate(paths []string) (files, error) {
	var all files
	for _, path := range paths {
		name, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		f := file{path: path, name: name}
		for folder := filepath.Dir(name); f.volume == ""; folder = filepath.Dir(folder) {
			if info, err := os.Lstat(filepath.Join(folder, dataLink)); err == nil && info.Mode().Type() == fs.ModeSymlink {
				f.volume = folder
				f.name = strings.TrimPrefix(strings.TrimPrefix(name, folder), "/")
				f.name = strings.TrimPrefix(f.name, dataLink+"/")
			}
			if folder == "/" {
				break
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// volumes returns each volume once. The name of a file without one is an empty string.
func (all files) volumes() []string {
	var volumes []string
	for _, f := range all {
		if !slices.Contains(volumes, f.volume) {
			volumes = append(volumes, f.volume)
		}
	}
	return volumes
}

// read reads all files. What it returns is never a mixture of two sets of a volume: it resolves ..data once, reads below that folder, and
// reads again if ..data has changed meanwhile. This also holds for its error.
func (all files) read() (set, error) {
	for range attempts {
		before, err := all.current()
		if err != nil {
			return set{}, err
		}
		found, err := all.readFrom(before)
		if after, again := all.current(); again == nil && slices.Equal(before, after) {
			return found, err
		}
	}
	return set{}, fmt.Errorf("%s: %w", all[0].path, errReplaced)
}

// current returns the folder of the current set of each of the volumes.
func (all files) current() ([]string, error) {
	var folders []string
	for _, volume := range all.volumes() {
		folder := "/"
		if volume != "" {
			target, err := os.Readlink(filepath.Join(volume, dataLink))
			if err != nil {
				return nil, fmt.Errorf("%s: read the link %s: %w", volume, dataLink, cause(err))
			}
			folder = filepath.Join(volume, target)
		}
		folders = append(folders, folder)
	}
	return folders, nil
}

func (all files) readFrom(folders []string) (set, error) {
	var found set
	volumes := all.volumes()
	for _, f := range all {
		text, err := os.ReadFile(filepath.Join(folders[slices.Index(volumes, f.volume)], f.name))
		if err != nil {
			return set{}, fmt.Errorf("%s: %w", f.path, cause(err))
		}
		variables, err := envfile.Parse(string(text))
		if err != nil {
			return set{}, fmt.Errorf("%s: %w", f.path, err)
		}
		found.variables = append(found.variables, variables...)
	}
	sum := sha256.New()
	for i, folder := range folders {
		if volumes[i] == "" {
			continue
		}
		if err := digest(sum, folder); err != nil {
			return set{}, fmt.Errorf("%s: %w", volumes[i], err)
		}
	}
	sum.Sum(found.digest[:0])
	return found, nil
}

// digest adds the names and contents of all files of a folder to a sum. A file that kvrun may not read does not count, because the program
// may not read it either.
func digest(sum hash.Hash, folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		var content []byte
		if err == nil {
			if !entry.Type().IsRegular() {
				return nil
			}
			content, err = os.ReadFile(path) //nolint:gosec // G122, G304: the volumes of the user's own files
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err == nil {
			_, err = fmt.Fprintf(sum, "%q %d\n%s", strings.TrimPrefix(path, folder), len(content), content)
		}
		return err
	})
}

// cause is an error of package os without the path, which is that of a hidden folder and changes.
func cause(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	return err
}

// environment returns the base with the variables. A later one of the same name replaces an earlier one.
func environment(base []string, variables []envfile.Variable) []string {
	value := map[string]string{}
	for _, v := range variables {
		value[v.Name] = v.Value
	}
	var all []string
	for _, entry := range base {
		name, _, _ := strings.Cut(entry, "=")
		if _, replaced := value[name]; !replaced {
			all = append(all, entry)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(value)) {
		all = append(all, name+"="+value[name])
	}
	return all
}
