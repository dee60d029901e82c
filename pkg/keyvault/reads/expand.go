package reads

import (
	"context"
	"slices"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// objectBytes is the memory of a listed object until its volume is complete, without its files: measured and rounded
// up.
const objectBytes = 1 << 10

// Expand replaces each selection by the objects that match it now, and each history by the versions that there are now.
// Selected objects are optional: an object that is deleted or disabled between the list and the read is left out.
func (f *Fetch) Expand(ctx context.Context) (objects []volume.Object, err error) {
	for i, object := range f.Objects {
		if object.IsList() {
			f.lists = append(f.lists, &read{request: vault.RequestOf(object), objects: []*volume.Object{&f.Objects[i]}})
		}
	}
	if len(f.lists) == 0 {
		return f.Objects, nil
	}
	if err := f.run(ctx, f.lists); err != nil {
		return nil, err
	}
	next, entries := 0, 0
	for _, object := range f.Objects {
		if !object.IsList() {
			objects = append(objects, object)
			if object.In != nil {
				entries++
			}
			continue
		}
		names := f.lists[next].names
		next++
		if object.In != nil {
			names = slices.Sorted(slices.Values(names)) // so that the file does not depend on the order of the list
			entries += len(names)
			if entries > volume.MaxEntries {
				return nil, volume.Errorf(volume.ErrTooLarge, "%s selects too many secrets, at most %d can be the entries of files; "+
					"select fewer, by prefix or tags", object.Source, volume.MaxEntries)
			}
		} else if err := f.Limits.Check(0, len(objects)-entries+len(names)); err != nil {
			return nil, err
		}
		if err := f.Hold(ctx, int64(len(names))*objectBytes); err != nil {
			return nil, err
		}
		objects = slices.Grow(objects, len(names))
		for i, name := range names {
			if object.History != nil {
				objects = append(objects, object.History.Each(i, name))
				continue
			}
			selected := object.Selection.Each(name)
			selected.Optional = true
			objects = append(objects, selected)
		}
	}
	return objects, nil
}
