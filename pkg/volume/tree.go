package volume

import (
	"fmt"
	"strings"
)

// Tree is the rule for the paths of one volume: a path is one file of one object, and no file is another's folder.
// [Parse] applies it to the files that a request certainly has. Which files a selection or a certificate-backed secret
// has shows only when it is fetched, so that a fetcher applies it again, to everything, in the order of
// [Request.Objects]:
//
//	tree := volume.NewTree(request.Folders)
//	files := make(map[string]volume.File)
//	for each object, each output that it really writes {
//		if err := tree.Add(output.Path, object); err != nil {
//			return err
//		}
//		files[output.Path] = … // may replace the file of an earlier entry
//	}
//
// The zero value is a tree without folders. A Tree is not safe for concurrent use.
type Tree struct {
	files   map[string]owner // by path
	folders map[string]owner // by path: whose file first needed it
}

type owner struct {
	source string
	kind   Kind
}

// NewTree is a tree in which the folders exist from the beginning, normally those of a [Request].
func NewTree(folders []string) *Tree {
	t := &Tree{}
	for _, folder := range folders {
		t.need(folder, owner{})
	}
	return t
}

// Add takes a path for an object. The path is validated too, so that the names which a vault lists may come in
// unseen. One file may take another's place: that of the attribute certificates replaces what an earlier entry of
// secrets or certificates wrote at the same path, as with the predecessor.
//
// The error is [ErrInvalid] and names the path and both sources; the tree is then as before.
func (t *Tree) Add(path string, by Object) error {
	if problem := t.add(path, by); problem != "" {
		return Errorf(ErrInvalid, "%s: %s", by.Source, problem)
	}
	return nil
}

func (t *Tree) add(path string, by Object) (problem string) {
	if problem := pathProblem(path); problem != "" {
		return fmt.Sprintf("path %s %s", quote(path), problem)
	}
	me := owner{source: by.Source, kind: by.Kind}
	if other, taken := t.files[path]; taken && !me.replaces(other) {
		if other.source == me.source {
			return fmt.Sprintf("writes %s twice", quote(path))
		}
		return fmt.Sprintf("writes %s, which %s writes already", quote(path), other.source)
	}
	if other, taken := t.folders[path]; taken {
		if other.source == "" {
			return fmt.Sprintf("writes %s, which is a folder of the attributes secrets and certificates", quote(path))
		}
		return fmt.Sprintf("writes %s, which is a folder for %s", quote(path), other.source)
	}
	for folder := range ancestors(path) {
		if other, taken := t.files[folder]; taken {
			return fmt.Sprintf("writes %s, but %s writes the file %s", quote(path), other.source, quote(folder))
		}
	}
	if t.files == nil {
		t.files = make(map[string]owner)
	}
	t.files[path] = me
	for folder := range ancestors(path) {
		t.need(folder, me)
	}
	return ""
}

func (t *Tree) need(folder string, by owner) {
	if t.folders == nil {
		t.folders = make(map[string]owner)
	}
	if _, there := t.folders[folder]; !there {
		t.folders[folder] = by
	}
}

// replaces is the one exception to the rule. Only the attribute certificates gives objects of KindPublicCertificate.
func (o owner) replaces(other owner) bool {
	return o.kind == KindPublicCertificate && !strings.HasPrefix(other.source, AttributeObjects+"[")
}

// ancestors yields the folders above a path, from the top: "a", "a/b" for "a/b/c".
func ancestors(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range len(path) {
			if path[i] == '/' && !yield(path[:i]) {
				return
			}
		}
	}
}
