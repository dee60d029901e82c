package volume

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a path, in bytes. NAME_MAX bounds a component. A path stays below PATH_MAX (4096) together with the
// mount point before it. The depth bounds how many folders a list can create.
const (
	maxComponent = 255
	maxPath      = 1024
	maxDepth     = 32
)

// pathProblem returns what is wrong with a relative, slash-separated path, or nothing. Components that begin with ".."
// are reserved for the volume's own links, as in every volume that the kubelet writes atomically.
func pathProblem(path string) string {
	switch {
	case path == "":
		return "is empty"
	case len(path) > maxPath:
		return "is longer than 1024 bytes"
	case !utf8.ValidString(path):
		return "is not valid UTF-8"
	case strings.ContainsFunc(path, unicode.IsControl):
		return "holds a control character"
	case path[0] == '/':
		return "is absolute, paths are relative to the volume"
	case strings.Count(path, "/") >= maxDepth:
		return "has more than 32 components"
	}
	for component := range strings.SplitSeq(path, "/") {
		switch {
		case component == "":
			return "has an empty component"
		case component == ".":
			return `has the component "."`
		case strings.HasPrefix(component, ".."):
			return `has a component that begins with ".."`
		case len(component) > maxComponent:
			return "has a component longer than 255 bytes"
		}
	}
	return ""
}

// fileNameProblem returns why a name is not a plain file name, or nothing.
func fileNameProblem(name string) string {
	switch {
	case strings.Contains(name, "/"), name == ".", strings.HasPrefix(name, ".."):
		return "is not a plain file name"
	case len(name) > maxComponent:
		return "is longer than 255 bytes"
	}
	return pathProblem(name)
}

// Tree holds the paths of one volume and refuses conflicts: a path is one file of one object, and no file is a folder.
// [Parse] checks the files that a request has in any case. The files of a selection and of a secret with a certificate
// are known only after the fetch, so the fetcher adds every file that it writes to a new Tree, in the order of
// [Request.Objects].
//
// The zero value is a tree without folders. A Tree is not safe for concurrent use.
type Tree struct {
	entries map[string]treeEntry // files and folders, by path
}

type treeEntry struct {
	source string // of the object that writes the file or needs the folder; empty for the folders of NewTree
	folder bool
}

// NewTree returns a tree with these folders, normally those of a [Request].
func NewTree(folders []string) *Tree {
	t := &Tree{entries: make(map[string]treeEntry)}
	for _, folder := range folders {
		t.entries[folder] = treeEntry{folder: true}
	}
	return t
}

// Add adds the path of a file of an object. It validates the path, so that names from a vault need no other check. A
// file of the attribute certificates replaces a file of secrets or certificates at the same path, as the predecessor
// did.
//
// The error is [ErrInvalid] and names the path and both sources. After an error the tree is unchanged.
func (t *Tree) Add(file string, by Object) error {
	if problem := t.add(file, by); problem != "" {
		return Errorf(ErrInvalid, "%s: %s", by.Source, problem)
	}
	return nil
}

func (t *Tree) add(file string, by Object) (problem string) {
	if problem := pathProblem(file); problem != "" {
		return fmt.Sprintf("path %s %s", quote(file), problem)
	}
	switch other, taken := t.entries[file]; {
	case !taken || other.replacedBy(by):
	case other.folder && other.source == "":
		return fmt.Sprintf("writes %s, which is a folder of the attributes secrets and certificates", quote(file))
	case other.folder:
		return fmt.Sprintf("writes %s, which is a folder for %s", quote(file), other.source)
	case other.source == by.Source:
		return fmt.Sprintf("writes %s twice", quote(file))
	default:
		return fmt.Sprintf("writes %s, which %s writes already", quote(file), other.source)
	}
	var folders []string // new ones
	for folder := path.Dir(file); folder != "."; folder = path.Dir(folder) {
		other, taken := t.entries[folder]
		if taken && !other.folder {
			return fmt.Sprintf("writes %s, but %s writes the file %s", quote(file), other.source, quote(folder))
		}
		if taken {
			break // so do the folders above
		}
		folders = append(folders, folder)
	}
	if t.entries == nil {
		t.entries = make(map[string]treeEntry)
	}
	t.entries[file] = treeEntry{source: by.Source}
	for _, folder := range folders {
		t.entries[folder] = treeEntry{source: by.Source, folder: true}
	}
	return ""
}

// replacedBy is the exception for the attribute certificates.
func (e treeEntry) replacedBy(o Object) bool {
	return !e.folder && strings.HasPrefix(o.Source, AttributeCertificates+"[") && !strings.HasPrefix(e.source, AttributeObjects+"[")
}
