package providerclass

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// This file decodes the parameter objects like a YAML library that decodes into structs, but it reads nodes: aliases are not
// expanded, every problem has its entry, and the fields without effect are known.

// List is the parameter objects.
type List struct {
	Entries []Entry
	Unknown []string // the keys beside array, and "---" for a second document
}

// Entry is one entry of the list.
type Entry struct {
	Object

	Mapping bool            // it is a mapping and not a text with one; the provider refuses that
	Unknown []string        // the fields that the provider does not read, and "---" for a second document
	Problem *volume.Problem // why it cannot be decoded; Field is a field of the object, or empty
}

// Decode reads the parameter objects: YAML with the key array, a list of texts, of which each is YAML again. It does not check
// the values of fields. The problem concerns the whole list.
func Decode(text string) (list List, problem string) {
	fields, unknown, problem := parse(text)
	if problem != "" {
		return List{}, problem
	}
	list.Unknown = unknown
	for _, f := range fields {
		if f.name != "array" {
			list.Unknown = append(list.Unknown, f.name)
			continue
		}
		switch {
		case isNull(f.value):
		case f.value.Kind != yaml.SequenceNode:
			return List{}, "array is not a list"
		case len(f.value.Content) > volume.MaxEntries:
			return List{}, fmt.Sprintf("array has more than %d entries", volume.MaxEntries)
		default:
			list.Entries, problem = entries(f.value.Content)
		}
	}
	return list, problem
}

// entries bounds the sum of the entries, because many aliases can stand for one long text.
func entries(nodes []*yaml.Node) (all []Entry, problem string) {
	all = make([]Entry, 0, len(nodes))
	size := 0
	for _, node := range nodes {
		node = resolve(node)
		if size += len(node.Value) + len(node.Content); size > volume.MaxAttributeBytes {
			return nil, fmt.Sprintf("the entries hold more than %d bytes", volume.MaxAttributeBytes)
		}
		all = append(all, decodeEntry(node))
	}
	return all, ""
}

// maxField bounds a field, in bytes. The longest that can be valid is a path.
const maxField = 4096

func decodeEntry(node *yaml.Node) (e Entry) {
	fail := func(field, text string) Entry {
		e.Problem = &volume.Problem{Field: field, Text: text}
		return e
	}
	var fields []field
	var problem string
	e.Mapping = node.Kind == yaml.MappingNode
	if e.Mapping {
		fields, problem = mapping(node)
	} else {
		text, ok := scalar(node)
		if !ok {
			return fail("", "is not a text")
		}
		fields, e.Unknown, problem = parse(text)
	}
	if problem != "" {
		return fail("", problem)
	}
	texts := map[string]*string{
		objectName: &e.Name, objectType: &e.Type, objectVersion: &e.Version, objectAlias: &e.Alias,
		objectFormat: &e.Format, objectEncoding: &e.Encoding, filePermission: &e.Permission,
	}
	for _, f := range fields {
		into, isText := texts[f.name]
		switch {
		case isText:
			text, ok := scalar(f.value)
			switch {
			case !ok:
				return fail(f.name, "is not a text")
			case len(text) > maxField:
				return fail(f.name, fmt.Sprintf("is longer than %d bytes", maxField))
			}
			*into = strings.TrimSpace(text)
		case f.name == objectHistory:
			if f.value.Kind != yaml.ScalarNode || f.value.Decode(&e.History) != nil {
				return fail(f.name, "is not a number")
			}
		default:
			e.Unknown = append(e.Unknown, f.name)
		}
	}
	return e
}

// parse returns the pairs of the first YAML document; none if there is no document. If there are several documents, the
// provider reads the first; unknown then has secondDocument for the others.
func parse(text string) (fields []field, unknown []string, problem string) {
	if volume.TooManyNodes(text) {
		return nil, nil, fmt.Sprintf("is too large, at most %d entries", volume.MaxEntries)
	}
	var document, second yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, "is not YAML"
	}
	if !errors.Is(decoder.Decode(&second), io.EOF) {
		unknown = []string{secondDocument}
	}
	if !document.IsZero() && !isNull(document.Content[0]) {
		fields, problem = mapping(document.Content[0])
	}
	return fields, unknown, problem
}

// secondDocument stands for what is after the first document in a list of names without effect.
const secondDocument = "---"

type field struct {
	name  string
	value *yaml.Node
}

const notAMapping = "is not a mapping, or has a key twice"

// mapping returns the pairs of a mapping.
func mapping(node *yaml.Node) (fields []field, problem string) {
	if node.Kind != yaml.MappingNode {
		return nil, notAMapping
	}
	seen := make(map[string]bool, len(node.Content)/2)
	for pair := range slices.Chunk(node.Content, 2) {
		key := resolve(pair[0])
		switch {
		case key.ShortTag() == "!!merge":
			return nil, "has a merge key (<<), which is not taken here"
		case key.Kind != yaml.ScalarNode || seen[key.Value]:
			return nil, notAMapping
		}
		seen[key.Value] = true
		fields = append(fields, field{key.Value, resolve(pair[1])})
	}
	return fields, ""
}

// scalar returns the text of a scalar as it is written, whatever its type.
func scalar(node *yaml.Node) (text string, ok bool) {
	switch {
	case node.Kind != yaml.ScalarNode:
		return "", false
	case isNull(node):
		return "", true
	case node.ShortTag() == "!!binary":
		data, err := base64.StdEncoding.DecodeString(node.Value)
		return string(data), err == nil
	}
	return node.Value, true
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

// resolve follows an alias. What it leads to is no alias.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}
