package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fields are the entries of mappings of texts, such as the parameters of a class. They remember which entries were read, so that the others
// can be reported.
type fields struct {
	names   []string
	entries map[string]field
	read    map[string]bool
	odd     []field // those that are lists or mappings
}

// field is one entry, with the object that it belongs to.
type field struct {
	key, value *yaml.Node
	object     *object
}

func newFields() *fields { return &fields{entries: map[string]field{}, read: map[string]bool{}} }

// add adds the entries of a mapping. They override those of an earlier one.
func (f *fields) add(o *object, node *yaml.Node) {
	eachPair(node, 0, func(key, value *yaml.Node) {
		if _, there := f.entries[key.Value]; !there {
			f.names = append(f.names, key.Value)
		}
		entry := field{key: key, value: value, object: o}
		f.entries[key.Value] = entry
		if entry.value.Kind != yaml.ScalarNode {
			f.odd = append(f.odd, entry)
		}
	})
}

// eachPair calls f for each key of a mapping with its value, both without aliases. First come those that are merged in, because the mapping
// overrides them.
func eachPair(node *yaml.Node, depth int, f func(key, value *yaml.Node)) {
	node = resolve(node)
	if node == nil || node.Kind != yaml.MappingNode || depth > maxMerges {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if !isMerge(node.Content[i]) {
			continue
		}
		merged := []*yaml.Node{node.Content[i+1]}
		if list := resolve(merged[0]); list.Kind == yaml.SequenceNode {
			merged = list.Content
		}
		for _, m := range slices.Backward(merged) {
			eachPair(m, depth+1, f)
		}
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := resolve(node.Content[i]); !isMerge(key) {
			f(key, resolve(node.Content[i+1]))
		}
	}
}

// get returns the value of the first of the names that is there and not empty, without white space around it.
func (f *fields) get(names ...string) string {
	found := ""
	for _, name := range names {
		f.read[name] = true
		if found == "" {
			found = strings.TrimSpace(unquoted(text1(f.entries[name].value)))
		}
	}
	return found
}

// unread returns the names of the entries that nothing has read.
func (f *fields) unread() (names []string) {
	for _, name := range f.names {
		if !f.read[name] {
			names = append(names, name)
		}
	}
	return names
}

// didYouMean is the end of a message about an unknown name.
func didYouMean(name string, known []string) string {
	if near := volume.Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
