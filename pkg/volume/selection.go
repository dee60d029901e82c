package volume

import (
	"io/fs"
	"unicode/utf8"
)

// selection reads prefix and tags. What is deleted or disabled between the list and the get is skipped: each object is
// optional.
func (m *mapping) selection(o Object, encoding Encoding, mode fs.FileMode) *Selection {
	s := &Selection{}
	folder := ""
	if path := m.path(fieldPath, ""); path != "" {
		folder = path + "/"
	}
	if f := m.parser.yamlMapping(m.source+"."+fieldSecrets, m.fields[fieldSecrets]); f != nil {
		f.unknown([]string{fieldPrefix, fieldTags})
		prefix, given := f.text(fieldPrefix)
		if given && !ValidName(prefix) {
			f.problem(fieldPrefix, f.fields[fieldPrefix], "%s is not 1 to 127 letters, digits and hyphens", quote(prefix))
		}
		s.Prefix = prefix
		s.Tags = f.tags()
	}
	s.Each = func(name string) Object {
		return Object{
			Kind:     KindSecret,
			Source:   o.Source,
			Vault:    o.Vault,
			Name:     name,
			Optional: true,
			Encoding: encoding,
			Outputs:  []Output{{Part: PartValue, Path: folder + name, Mode: mode}},
		}
	}
	return s
}

// maxTags and maxTag are Key Vault's limits: the tags of an object, and the characters of a tag's name and value.
const (
	maxTags = 15
	maxTag  = 256
)

func (m *mapping) tags() map[string]string {
	node := m.fields[fieldTags]
	if node == nil {
		return nil
	}
	t := m.parser.yamlMapping(m.source+"."+fieldTags, node)
	if t == nil {
		return nil
	}
	if len(t.keys) > maxTags {
		t.problem("", node, "has more than %d tags, as many as an object can have", maxTags)
		return nil
	}
	tags := make(map[string]string, len(t.keys))
	for _, key := range t.keys {
		value, ok := t.text(key)
		if ok && (key == "" || utf8.RuneCountInString(key) > maxTag || utf8.RuneCountInString(value) > maxTag) {
			t.problem(key, t.fields[key], "is not a tag, whose name has 1 to %d characters and its value up to %d", maxTag, maxTag)
		}
		tags[key] = value
	}
	return tags
}
