package files

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// describe notes the tags that the manifests say of an object. They count against the limits while they are read:
// those of thousands of objects are larger than a volume.
func (s *Set) describe(ctx context.Context, from *source, v *Value) error {
	if len(v.Tags) == 0 || !slices.ContainsFunc(s.request.Manifests, func(m volume.Manifest) bool { return m.Tags }) {
		return nil
	}
	from.tags = v.Tags
	var size int64
	for name, tag := range v.Tags {
		size += int64(len(name) + len(tag))
	}
	if err := s.request.Limits.Check(s.described.Add(size), 0); err != nil {
		return err
	}
	return s.request.Hold(ctx, size)
}

// versions returns the versions of the objects that are asked for.
func (s *Set) versions() (versions []volume.Version) {
	for i, object := range s.objects {
		o, there := s.made[&s.objects[i]]
		switch {
		case !s.request.AllVersions && (object.ID == "" || !there):
			continue
		case !there && s.isSelected(object): // it has gone since the list
			continue
		}
		v := versionOf(object, o.source)
		for _, file := range o.files {
			v.Paths = append(v.Paths, file.Path)
		}
		versions = append(versions, v)
		if s.request.AllVersions && object.Password != nil {
			versions = append(versions, versionOf(*object.Password, s.made[object.Password].source))
		}
	}
	return versions
}

// isSelected reports whether an object is one of a selection.
func (s *Set) isSelected(object volume.Object) bool {
	return slices.ContainsFunc(s.request.Objects, func(o volume.Object) bool { return o.Selection != nil && o.Source == object.Source })
}

// versionOf returns the version of an object, which is absent if from is nil.
func versionOf(o volume.Object, from *source) volume.Version {
	v := volume.Version{ID: o.ID, Source: o.Source, Kind: o.Kind, Vault: o.Vault, Name: o.Name, Absent: from == nil}
	if from != nil {
		v.Version, v.Expires, v.NotAfter, v.Tags = from.version, from.expires, from.notAfter, from.tags
	}
	return v
}

// manifestFile is the JSON of a manifest. Fetched is its first field, see sameManifest.
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
func (s *Set) manifests(ctx context.Context, c volume.Content) (files []volume.File, err error) {
	for _, m := range s.request.Manifests {
		data, err := manifestOf(c, m.Tags)
		if err != nil {
			return nil, err
		}
		files = append(files, volume.File{
			Path: m.Path, Mode: m.Mode, Data: volume.NewSecret(data),
			Keeps: func(there []byte) bool { return sameManifest(there, data) },
		})
	}
	return files, s.count(ctx, sizeOf(files), len(files))
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
