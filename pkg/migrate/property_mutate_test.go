package migrate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// textTag marks a tree that stands in its manifest as a text: the objects of a class, and the entries of their array. So one
// mutation works on every level, and between the levels.
const textTag = "!text"

// mutation is one change of one field.
type mutation struct {
	document int
	steps    []int  // the positions of nodes, from the document to the key
	field    string // for people: "spec.parameters.objects.array[0].objectName"
	change
}

// place is a field in a copy of the document.
type place struct {
	parents []*yaml.Node // from the document to the mapping of the field
	index   int          // of the key
}

func (p place) mapping() *yaml.Node { return p.parents[len(p.parents)-1] }
func (p place) key() *yaml.Node     { return p.mapping().Content[p.index] }
func (p place) value() *yaml.Node   { return p.mapping().Content[p.index+1] }

func (p place) remove() (key, value *yaml.Node) {
	key, value = p.key(), p.value()
	p.mapping().Content = slices.Delete(p.mapping().Content, p.index, p.index+2)
	return key, value
}

// moveTo moves the field into another mapping, unless that has one of the name.
func (p place) moveTo(target *yaml.Node) bool {
	if target == nil || field(target, p.key().Value) != nil {
		return false
	}
	key, value := p.remove()
	target.Content = append(target.Content, key, value)
	return true
}

func (p place) parent() *yaml.Node {
	for _, node := range slices.Backward(p.parents[:len(p.parents)-1]) {
		if node.Kind == yaml.MappingNode {
			return node
		}
	}
	return nil
}

// siblings are the mappings beside the one of the field, and those beside the field.
func (p place) siblings() (all []*yaml.Node) {
	around := p.parents[len(p.parents)-2]
	for _, node := range slices.Concat(around.Content, p.mapping().Content) {
		if node.Kind == yaml.MappingNode && node != p.mapping() && node != p.value() {
			all = append(all, node)
		}
	}
	return all
}

func scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func wrapped(kind yaml.Kind, content ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: kind, Content: content}
}

// changes are the mutations of a field. Those that fit no value of its kind report false.
var changes = []change{
	{"renamed by an x", func(p place) bool { p.key().Value += "x"; return true }},
	{"renamed in case", func(p place) bool {
		before := p.key().Value
		p.key().Value = strings.ToLower(before)
		if p.key().Value == before {
			p.key().Value = string(unicode.ToUpper(rune(before[0]))) + before[1:]
		}
		return p.key().Value != before
	}},
	{"removed", func(p place) bool { p.remove(); return true }},
	{"moved to the parent", func(p place) bool { return p.moveTo(p.parent()) }},
	{"moved to a sibling", func(p place) bool { return len(p.siblings()) > 0 && p.moveTo(p.siblings()[0]) }},
	{"moved to the last", func(p place) bool { s := p.siblings(); return len(s) > 1 && p.moveTo(s[len(s)-1]) }},
	{"a list of it", func(p place) bool { return p.retype(wrapped(yaml.SequenceNode, p.value())) }},
	{"a mapping with it", func(p place) bool { return p.retype(wrapped(yaml.MappingNode, scalar("!!str", "value"), p.value())) }},
	{"a number", func(p place) bool { return p.retype(scalar("!!int", "7")) }},
	{"a boolean", func(p place) bool { return p.retype(scalar("!!bool", "true")) }},
	{"null", func(p place) bool { return p.retype(scalar("!!null", "null")) }},
	{"a text", func(p place) bool { return p.value().Kind != yaml.ScalarNode && p.retype(scalar("!!str", "some text")) }},
	{"empty", func(p place) bool { return p.value().Kind == yaml.ScalarNode && p.retype(scalar("!!str", "")) }},
	{"a list, now a mapping", func(p place) bool { return p.value().Kind == yaml.SequenceNode && p.retype(asMapping(p.value())) }},
	{"a text, now its YAML", func(p place) bool { return p.value().Tag == textTag && unmark(p.value()) }},
	{"texts, now their YAML", func(p place) bool { return slices.ContainsFunc(p.value().Content, unmark) }},
	{"only its first item", func(p place) bool {
		return p.value().Kind == yaml.SequenceNode && len(p.value().Content) > 0 && p.retype(p.value().Content[0])
	}},
	{"a boolean, now a text", func(p place) bool {
		return p.value().ShortTag() == "!!bool" && p.retype(scalar("!!str", p.value().Value))
	}},
	{"with blanks around it", func(p place) bool {
		return p.value().ShortTag() == "!!str" && p.retype(scalar("!!str", " "+p.value().Value+" "))
	}},
	{"in capitals", func(p place) bool {
		return p.value().ShortTag() == "!!str" && p.retype(scalar("!!str", strings.ToUpper(p.value().Value)))
	}},
	{"twice in a sibling too", func(p place) bool { return len(p.siblings()) > 0 && p.copyTo(p.siblings()[0]) }},
}

// change is a way to change a field. apply reports false if it is not possible there.
type change struct {
	what  string
	apply func(place) bool
}

func (p place) retype(value *yaml.Node) bool {
	p.mapping().Content[p.index+1] = value
	return true
}

func (p place) copyTo(target *yaml.Node) bool {
	if field(target, p.key().Value) != nil {
		return false
	}
	target.Content = append(target.Content, copyTree(p.key()), copyTree(p.value()))
	return true
}

func asMapping(list *yaml.Node) *yaml.Node {
	m := wrapped(yaml.MappingNode)
	for i, item := range list.Content {
		m.Content = append(m.Content, scalar("!!str", fmt.Sprintf("i%d", i)), item)
	}
	return m
}

func unmark(node *yaml.Node) bool {
	marked := node.Tag == textTag
	if marked {
		node.Tag = ""
	}
	return marked
}

func field(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func copyTree(node *yaml.Node) *yaml.Node {
	made := *node
	made.Content = nil
	for _, child := range node.Content {
		made.Content = append(made.Content, copyTree(child))
	}
	return &made
}

// corpusFile is a manifest whose fields can be changed one by one.
type corpusFile struct {
	name      string
	data      []byte
	documents []*yaml.Node        // with trees in the place of the texts of objects, and words in that of placeholders
	printed   [][]byte            // the documents, as they are
	restore   func([]byte) []byte // puts the placeholders back
	wrong     *violation          // without any change
}

func readCorpusFile(name string, data []byte) (*corpusFile, error) {
	words, restore := tokens(data)
	f := &corpusFile{name: name, data: data, restore: restore}
	decoder := yaml.NewDecoder(bytes.NewReader(words))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		printed, err := printTree(&document)
		if err != nil {
			return nil, err
		}
		readTexts(&document)
		f.documents, f.printed = append(f.documents, &document), append(f.printed, printed)
	}
}

// readTexts puts trees in the place of the texts of objects.
func readTexts(node *yaml.Node) {
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			objects := node.Content[i+1]
			if node.Content[i].Value != "objects" || !readText(objects) {
				continue
			}
			if array := field(objects, "array"); array != nil {
				for _, entry := range array.Content {
					readText(entry)
				}
			}
		}
	}
	for _, child := range node.Content {
		readTexts(child)
	}
}

func readText(node *yaml.Node) bool {
	var document yaml.Node
	if node.Kind != yaml.ScalarNode || yaml.Unmarshal([]byte(node.Value), &document) != nil || len(document.Content) == 0 {
		return false
	}
	tree := document.Content[0]
	if tree.Kind != yaml.MappingNode {
		return false
	}
	*node = *tree
	node.Tag = textTag
	return true
}

// printTree encodes a document, and what is marked as a text in it as one.
func printTree(node *yaml.Node) ([]byte, error) {
	if err := printTexts(node); err != nil {
		return nil, err
	}
	return yaml.Marshal(node)
}

func printTexts(node *yaml.Node) error {
	for _, child := range node.Content {
		if err := printTexts(child); err != nil {
			return err
		}
	}
	if node.Tag != textTag {
		return nil
	}
	node.Tag = ""
	text, err := yaml.Marshal(node)
	*node = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(text), Style: yaml.LiteralStyle}
	return err
}

// mutate returns the manifest with one change; nil if it is not possible there.
func (f *corpusFile) mutate(m mutation) ([]byte, error) {
	document := copyTree(f.documents[m.document])
	at := place{parents: []*yaml.Node{document}, index: m.steps[len(m.steps)-1]}
	for _, step := range m.steps[:len(m.steps)-1] {
		at.parents = append(at.parents, at.mapping().Content[step])
	}
	if !m.apply(at) {
		return nil, nil
	}
	changed, err := printTree(document)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(f.printed)
	all[m.document] = changed
	return f.restore(bytes.Join(all, []byte("---\n"))), nil
}
