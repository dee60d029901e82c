package keyvault

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fields are the fields of a JSON value that the objects of a read need. The value is parsed once for all of them.
type fields struct {
	objects []*volume.Object
	value   *value

	found map[string]*foundField // by pointer; nil before the first use
	err   error
}

// foundField is a field whose data is made when it is needed, and once: 4096 entries may have the same field.
type foundField struct {
	values.Field
	data func() ([]byte, error)
}

// fieldsOf returns nil if no object needs a field, as in nearly all volumes.
func fieldsOf(objects []*volume.Object, v *value) *fields {
	for _, object := range objects {
		if slices.ContainsFunc(object.Outputs, func(o volume.Output) bool { return o.Part == volume.PartField }) {
			return &fields{objects: objects, value: v}
		}
	}
	return nil
}

// of returns the bytes of a field for one object. The error names the pointer and how far it got.
func (f *fields) of(o volume.Object, pointer string) ([]byte, error) {
	if f.found == nil {
		f.find()
	}
	if f.err != nil {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s has no field %+q, its value %v; correct the value, or leave the field out", label(o), pointer, f.err)
	}
	field := f.found[pointer]
	data, err := field.data()
	switch {
	case errors.Is(err, values.ErrNoField), errors.Is(err, values.ErrTwice):
		return nil, volume.Errorf(volume.ErrPrecondition, "%s has no field %+q, %w; correct the pointer or the value", label(o), pointer, err)
	case err != nil:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s has a field %+q that %v; correct the value", label(o), pointer, err)
	case field.IsString() || o.Encoding == "" || o.Encoding == volume.UTF8:
	default:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s has a field %+q that is no string and so not %s; leave the encoding out", label(o), pointer, o.Encoding)
	}
	return decodeText(o, o.Encoding, data)
}

func (f *fields) find() {
	f.found = map[string]*foundField{}
	var pointers []string
	for _, object := range f.objects {
		for _, output := range object.Outputs {
			if output.Part == volume.PartField {
				pointers = append(pointers, output.Pointer)
			}
		}
	}
	found, err := values.Find(f.value.Secret.Reveal(), pointers)
	f.err = err
	for i, field := range found {
		if f.found[pointers[i]] == nil {
			f.found[pointers[i]] = &foundField{field, sync.OnceValues(field.Data)}
		}
	}
}

// composedFile is a file of values.
type composedFile struct {
	of   *volume.ValueFile
	file volume.File
}

// compose makes the files of values from the entries that are there.
func (f *fetch) compose(ctx context.Context, objects []volume.Object, outputs []output) (composed []composedFile, err error) {
	entries := map[*volume.ValueFile]*entries{}
	for _, object := range f.Objects { // a file is there without any entry, too
		if of := object.In; of != nil && entries[of] == nil {
			entries[of] = newEntries(of)
			composed = append(composed, composedFile{of: of})
		}
	}
	if composed == nil {
		return nil, nil
	}
	for i, object := range objects {
		if object.In == nil || outputs[i].read.absent {
			continue
		}
		for _, value := range outputs[i].read.files[outputs[i].index] { // one, or none if an optional field is absent
			if err := entries[object.In].add(object, value.Data.Reveal()); err != nil {
				return nil, err
			}
		}
	}
	for i, c := range composed {
		if err := f.count(ctx, 0, 1); err != nil {
			return nil, err
		}
		data, err := entries[c.of].encode(func(bytes int64) error { return f.count(ctx, bytes, 0) })
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
