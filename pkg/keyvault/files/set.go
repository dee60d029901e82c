package files

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/decode"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Value is what a vault returned for an object. The kind of the object decides which fields are set.
type Value struct {
	Secret      volume.Secret
	ContentType string
	Backs       bool // the secret belongs to a certificate
	Tags        map[string]string
	Expires     time.Time // zero if there is no end
	Version     string

	DER []byte // a certificate without its key
	Key certificate.JSONWebKey

	Decoded *decode.Certificate // shared by the same values
	Size    int                 // approximate bytes in memory, with what is decoded
}

// Set holds the files of one volume while they are made.
type Set struct {
	request   volume.Request
	objects   []volume.Object        // of the request, with those that its lists have selected
	passwords map[*volume.Object]int // of these objects: the index of the first that has it
	decoders  *decode.Decoders

	mu   sync.Mutex
	made map[*volume.Object]output // of the objects that are there

	bytes     atomic.Int64 // of the files so far
	files     atomic.Int64
	described atomic.Int64 // bytes of tags for the manifests so far
}

// output is what was made for one object.
type output struct {
	*source
	files []volume.File
}

// source is what is known of one value.
type source struct {
	of       *volume.Object // the first that needs it
	version  string
	expires  time.Time
	tags     map[string]string // only if a manifest has them
	password volume.Secret     // the value, if it is one
	value    *Value            // for the objects whose files need a password
	notAfter time.Time         // of a certificate
	notes    []string          // of the objects
	gaps     []string          // in their chains
}

// New makes an empty set for the objects of a request, which include those that its lists have selected.
func New(r volume.Request, objects []volume.Object, decoders *decode.Decoders) *Set {
	s := &Set{request: r, objects: objects, decoders: decoders, made: make(map[*volume.Object]output, len(objects))}
	for i := range objects {
		password := objects[i].Password
		if password == nil {
			continue
		}
		if s.passwords == nil {
			s.passwords = map[*volume.Object]int{}
		}
		if _, known := s.passwords[password]; !known {
			s.passwords[password] = i
		}
	}
	return s
}

// Add makes the files of the objects that need a value, and keeps only them: a certificate may be many times as large as the file
// that a volume needs. The objects are some of those of [New], in the same order, or their passwords. Those that are never added
// are absent and have no files. Add is safe for concurrent use.
func (s *Set) Add(ctx context.Context, objects []*volume.Object, v Value) error {
	from := &source{of: objects[0], version: v.Version, expires: v.Expires}
	if err := s.describe(ctx, from, &v); err != nil {
		return err
	}
	with := extras{fields: fieldsOf(objects, v.Secret)}
	for _, object := range objects {
		if _, ok := s.passwords[object]; ok {
			from.password = v.Secret
		}
		var files []volume.File
		if object.Password != nil { // it may not be read yet
			held := v // not &v, so that other values need no memory of their own
			from.value = &held
		} else {
			var err error
			if files, err = s.filesOf(ctx, object, from, &v, with); err != nil {
				return err
			}
		}
		s.mu.Lock()
		s.made[object] = output{from, files}
		s.mu.Unlock()
	}
	if from.value != nil {
		return s.request.Hold(ctx, int64(v.Size))
	}
	return nil
}

// filesOf makes the files of one object.
func (s *Set) filesOf(ctx context.Context, object *volume.Object, from *source, v *Value, with extras) ([]volume.File, error) {
	done, err := s.render(ctx, *object, v, with)
	if object.KeyIfExportable && errors.Is(err, certificate.ErrNoKey) {
		public := *object
		public.Split = slices.DeleteFunc(slices.Clone(public.Split), volume.Output.HoldsKey)
		done, err = s.render(ctx, public, v, with)
		from.notes = append(from.notes, label(*object)+" has a key that is not exportable: its certificate is there, without the key")
	}
	if err != nil {
		return nil, err
	}
	files := len(done.files)
	if object.In != nil {
		files = 0 // they are entries of a file
	}
	if err := s.count(ctx, sizeOf(done.files)-done.counted, files); err != nil {
		return nil, err
	}
	if !done.notAfter.IsZero() {
		from.notAfter = done.notAfter
	}
	if done.gap != nil {
		from.gaps = append(from.gaps, fmt.Sprintf("%s %v", label(*object), done.gap))
	}
	return done.files, nil
}

func sizeOf(files []volume.File) (bytes int64) {
	for _, file := range files {
		bytes += int64(len(file.Data.Reveal()))
	}
	return bytes
}

// count counts bytes and files against the limits of the volume and the memory of the node.
func (s *Set) count(ctx context.Context, bytes int64, files int) error {
	if err := s.request.Limits.Check(s.bytes.Add(bytes), int(s.files.Add(int64(files)))); err != nil {
		return err
	}
	return s.request.Hold(ctx, bytes)
}

// Content returns the content of the volume when every value was added. fetched is the time of its oldest value, which the
// manifests say.
func (s *Set) Content(ctx context.Context, fetched time.Time) (volume.Content, error) {
	if err := s.protect(ctx); err != nil {
		return volume.Content{}, err
	}
	content := volume.Content{Fetched: fetched, Folders: s.request.Folders, Versions: s.versions(), Expiries: s.expiries()}
	for _, from := range s.sources() {
		content.Notes = append(content.Notes, from.notes...)
		content.Gaps = append(content.Gaps, from.gaps...)
	}
	composed, err := s.compose(ctx)
	if err != nil {
		return volume.Content{}, err
	}
	manifests, err := s.manifests(ctx, content)
	if err != nil {
		return volume.Content{}, err
	}
	content.Files, err = s.tree(composed, manifests)
	return content, err
}

// sources returns the values in the order in which the objects need them.
func (s *Set) sources() (all []*source) {
	add := func(object *volume.Object) {
		if from := s.made[object].source; from != nil && from.of == object {
			all = append(all, from)
		}
	}
	for i := range s.objects {
		add(&s.objects[i])
		if password := s.objects[i].Password; password != nil && s.passwords[password] == i {
			add(password)
		}
	}
	return all
}

// tree returns the files of all objects, those of several values, and the manifests, ordered by path. If objects may write
// the same path, the last one wins.
func (s *Set) tree(composed []composedFile, manifests []volume.File) ([]volume.File, error) {
	tree := volume.NewTree(s.request.Folders)
	byPath := make(map[string]volume.File, len(s.objects))
	add := func(file volume.File, of volume.Object) error {
		byPath[file.Path] = file
		return tree.Add(file.Path, of)
	}
	for i, object := range s.objects {
		if object.In != nil {
			continue
		}
		for _, file := range s.made[&s.objects[i]].files {
			if err := add(file, object); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range composed {
		if err := add(c.file, c.of.Object()); err != nil {
			return nil, err
		}
	}
	for i, file := range manifests {
		if err := add(file, volume.Object{Source: s.request.Manifests[i].Source}); err != nil {
			return nil, err
		}
	}
	files := slices.AppendSeq(make([]volume.File, 0, len(byPath)), maps.Values(byPath))
	slices.SortFunc(files, func(a, b volume.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}
