package files

import (
	"errors"
	"slices"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fields are the fields of a JSON value that its objects need. The value is parsed once for all of them.
type fields struct {
	objects []*volume.Object
	value   volume.Secret

	found map[string]*foundField // by pointer; nil before the first use
	err   error
}

// foundField is a field whose data is made when it is needed, and once: 4096 entries may have the same field.
type foundField struct {
	values.Field
	data func() ([]byte, error)
}

// fieldsOf returns nil if no object needs a field, as in nearly all volumes.
func fieldsOf(objects []*volume.Object, value volume.Secret) *fields {
	for _, object := range objects {
		if slices.ContainsFunc(object.Outputs, func(o volume.Output) bool { return o.Part == volume.PartField }) {
			return &fields{objects: objects, value: value}
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
	found, err := values.Find(f.value.Reveal(), pointers)
	f.err = err
	for i, field := range found {
		if f.found[pointers[i]] == nil {
			f.found[pointers[i]] = &foundField{field, sync.OnceValues(field.Data)}
		}
	}
}
