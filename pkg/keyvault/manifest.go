package keyvault

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// describe notes what the manifests say about an object beside its version. Tags count against the limits while they are read:
// those of thousands of objects are larger than a volume.
func (f *fetch) describe(ctx context.Context, r *read, v *value) error {
	r.expires = v.Expires
	if len(v.Tags) == 0 || !slices.ContainsFunc(f.Manifests, func(m volume.Manifest) bool { return m.Tags }) {
		return nil
	}
	r.tags = v.Tags
	var size int64
	for name, tag := range v.Tags {
		size += int64(len(name) + len(tag))
	}
	if err := f.Limits.Check(f.described.Add(size), 0); err != nil {
		return err
	}
	return f.reserve(ctx, size)
}

// versionsOf returns the versions of the objects that are asked for.
func (f *fetch) versionsOf(objects []volume.Object, outputs []output) (versions []volume.Version) {
	for i, object := range objects {
		o := outputs[i]
		switch {
		case !f.AllVersions && (object.ID == "" || o.read.absent):
			continue
		case o.read.absent && f.isSelected(object): // it has gone since the list
			continue
		}
		v := versionOf(object, o.read)
		if !o.read.absent {
			for _, file := range o.read.files[o.index] {
				v.Paths = append(v.Paths, file.Path)
			}
		}
		versions = append(versions, v)
		if f.AllVersions && object.Password != nil {
			versions = append(versions, versionOf(*object.Password, o.password))
		}
	}
	return versions
}

// isSelected reports whether an object is one of a selection.
func (f *fetch) isSelected(object volume.Object) bool {
	return slices.ContainsFunc(f.Objects, func(o volume.Object) bool { return o.Selection != nil && o.Source == object.Source })
}

func versionOf(o volume.Object, r *read) volume.Version {
	return volume.Version{
		ID: o.ID, Source: o.Source, Kind: o.Kind, Vault: o.Vault, Name: o.Name,
		Version: r.version, Expires: r.expires, NotAfter: r.notAfter, Tags: r.tags, Absent: r.absent,
	}
}

// manifestFile is the JSON of a manifest. Fetched is its first field, see manifestTime.
type manifestFile struct {
	Fetched string           `json:"fetched"`
	Objects []manifestObject `json:"objects"`
}

type manifestObject struct {
	Source   string            `json:"source"`
	Kind     volume.Kind       `json:"kind"`
	Vault    string            `json:"vault"`
	Name     string            `json:"name"`
	Version  string            `json:"version,omitempty"`
	Expires  string            `json:"expires,omitempty"`
	NotAfter string            `json:"notAfter,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	Absent   bool              `json:"absent,omitempty"`
	Files    []string          `json:"files,omitempty"`
}

// manifests returns the files of the manifests, in their order.
func (f *fetch) manifests(ctx context.Context, c volume.Content) (files []volume.File, err error) {
	for _, m := range f.Manifests {
		data, err := manifestOf(c, m.Tags)
		if err != nil {
			return nil, err
		}
		files = append(files, volume.File{
			Path: m.Path, Mode: m.Mode, Data: volume.NewSecret(data),
			Keeps: func(there []byte) bool { return sameManifest(there, data) },
		})
	}
	return files, f.keep(ctx, files)
}

func manifestOf(c volume.Content, tags bool) ([]byte, error) {
	file := manifestFile{Fetched: timestamp(c.Fetched), Objects: []manifestObject{}}
	for _, v := range c.Versions {
		o := manifestObject{
			Source: v.Source, Kind: v.Kind, Vault: v.Vault, Name: v.Name, Version: v.Version,
			Expires: timestamp(v.Expires), NotAfter: timestamp(v.NotAfter), Absent: v.Absent, Files: v.Paths,
		}
		if tags {
			o.Tags = v.Tags
		}
		file.Objects = append(file.Objects, o)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(file)
	return out.Bytes(), err
}

// timestamp returns a time in UTC, to the second (RFC 3339), or nothing for the zero time.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// sameManifest reports whether two manifests differ at most in their time. The time of a manifest is when this content was
// fetched for the first time: with the time of each refresh the set would change although nothing in it has, and every program
// that watches it would load the same files again.
func sameManifest(there, next []byte) bool {
	const begin = "{\n  \"fetched\": \""
	end := len(begin) + len(time.RFC3339) - len("07:00") // of a time in UTC: it ends with Z
	if len(there) != len(next) || len(next) < end {
		return false
	}
	_, err := time.Parse(time.RFC3339, string(there[len(begin):end]))
	return err == nil && bytes.Equal(there[:len(begin)], next[:len(begin)]) && bytes.Equal(there[end:], next[end:])
}
