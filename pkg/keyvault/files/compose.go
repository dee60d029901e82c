package files

import (
	"context"
	"errors"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// composedFile is a file of values.
type composedFile struct {
	of   *volume.ValueFile
	file volume.File
}

// compose makes the files of values from the entries that are there.
func (s *Set) compose(ctx context.Context) (composed []composedFile, err error) {
	entries := map[*volume.ValueFile]*entries{}
	for _, object := range s.request.Objects { // a file is there without any entry, too
		if of := object.In; of != nil && entries[of] == nil {
			entries[of] = newEntries(of)
			composed = append(composed, composedFile{of: of})
		}
	}
	if composed == nil {
		return nil, nil
	}
	for i, object := range s.objects {
		if object.In == nil {
			continue
		}
		for _, value := range s.made[&s.objects[i]].files { // one, or none if an optional object or field is absent
			if err := entries[object.In].add(object, value.Data.Reveal()); err != nil {
				return nil, err
			}
		}
	}
	for i, c := range composed {
		if err := s.count(ctx, 0, 1); err != nil {
			return nil, err
		}
		data, err := entries[c.of].encode(func(bytes int64) error { return s.count(ctx, bytes, 0) })
		if err != nil {
			return nil, err
		}
		composed[i].file = volume.File{Path: c.of.Path, Mode: c.of.Mode, Data: volume.NewSecret(data)}
	}
	return composed, nil
}

// entries are those of one file.
type entries struct {
	of      *volume.ValueFile
	list    []values.Entry
	objects []volume.Object // of the list
	names   map[string]int  // indices
	bytes   int64           // of the values
}

func newEntries(of *volume.ValueFile) *entries { return &entries{of: of, names: map[string]int{}} }

// add appends an entry. Parse has checked the names that it knew; those of selected secrets come from a vault.
func (e *entries) add(o volume.Object, data []byte) error {
	if problem := e.of.Format.NameProblem(o.Entry); problem != "" {
		return volume.Errorf(volume.ErrPrecondition, "%s cannot be an entry of %+q, %s; select fewer, and list it with a name", label(o), e.of.Path, problem)
	}
	if i, twice := e.names[o.Entry]; twice {
		return volume.Errorf(volume.ErrInvalid, "%s is the entry %+q of %+q, and so is %s; select fewer, or choose another name",
			label(o), o.Entry, e.of.Path, label(e.objects[i]))
	}
	e.names[o.Entry] = len(e.list)
	e.list = append(e.list, values.Entry{Name: o.Entry, Data: data})
	e.objects = append(e.objects, o)
	e.bytes += int64(len(data))
	return nil
}

// encode returns the content of the file. Before the content is larger than the values, which are counted already, it calls count.
func (e *entries) encode(count func(bytes int64) error) (data []byte, err error) {
	file := &growing{counted: e.bytes, count: count}
	remedy := "change the value, or write it to a file of its own"
	switch e.of.Format {
	case volume.FormatJSON:
		err = values.JSON(file, e.list)
	case volume.FormatProperties:
		err = values.Properties(file, e.list)
	case volume.FormatEnv:
		err = values.Env(file, e.list)
		remedy = "change the value, or write it to a json or properties file, or to one of its own"
	default:
		err = volume.Errorf(volume.ErrInvalid, "%s has the unknown format %q", e.of.Source, e.of.Format)
	}
	if unwritable, ok := errors.AsType[*values.Unwritable](err); ok {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s cannot be the entry %+q of %+q: %v; %s",
			label(e.objects[unwritable.Entry]), e.list[unwritable.Entry].Name, e.of.Path, unwritable, remedy)
	}
	return file.data, err
}

// growing is the content of a file while it is written.
type growing struct {
	data    []byte
	counted int64
	count   func(bytes int64) error
}

func (g *growing) Write(data []byte) (n int, err error) {
	if more := int64(len(g.data)+len(data)) - g.counted; more > 0 {
		if err := g.count(more); err != nil {
			return 0, err
		}
		g.counted += more
	}
	g.data = append(g.data, data...)
	return len(data), nil
}
