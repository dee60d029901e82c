package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// stream is a file with its parsed documents.
type stream struct {
	file      File
	text      *text
	documents []*yaml.Node // DocumentNode each
	parents   map[*yaml.Node]*yaml.Node
	aliases   []*yaml.Node

	placeholders []string // by the number of their token in text

	edits   []edit   // of the bytes
	changes []change // of the tree; the same as edits
}

// templateError means that a file is no YAML, and has template expressions of Helm.
type templateError struct{ error }

// templateAdvice ends with commands that give YAML.
const templateAdvice = "is a template of Helm that is no YAML before it is rendered; give what it renders: helm template . | kvcsi migrate -f -, " +
	"or what is in the cluster: kubectl get -o yaml ... | kvcsi migrate -f -"

// parse reads all documents of a file. The error has one line, with the file and, if known, the line.
func parse(file File) (*stream, error) {
	if !utf8.Valid(file.Data) {
		return nil, fmt.Errorf("%s: is not UTF-8", file.Name)
	}
	hidden, placeholders := hide(file.Data)
	s := &stream{file: file, text: newText(hidden), placeholders: placeholders, parents: map[*yaml.Node]*yaml.Node{}}
	decoder := yaml.NewDecoder(bytes.NewReader(hidden))
	for {
		document := &yaml.Node{}
		switch err := decoder.Decode(document); {
		case errors.Is(err, io.EOF):
			return s, nil
		case err != nil && bytes.Contains(file.Data, []byte("{{")):
			return s, templateError{fmt.Errorf("%s: %s", file.Name, templateAdvice)}
		case err != nil:
			return nil, fmt.Errorf("%s: %s", file.Name, strings.ReplaceAll(err.Error(), "\n", " "))
		}
		s.documents = append(s.documents, document)
		s.index(document)
	}
}

// index notes the parents and the aliases, and puts the placeholders back into the values.
func (s *stream) index(node *yaml.Node) {
	if value := show(node.Value, s.placeholders); value != node.Value {
		s.text.values[node] = node.Value
		node.Value = value
	}
	for _, comment := range []*string{&node.HeadComment, &node.LineComment, &node.FootComment} {
		*comment = show(*comment, s.placeholders)
	}
	if node.Kind == yaml.AliasNode {
		s.aliases = append(s.aliases, node)
	}
	for _, child := range node.Content {
		s.parents[child] = node
		s.index(child)
	}
}

// object is one API object in a stream: a document, or an item of a List.
type object struct {
	stream                 *stream
	node                   *yaml.Node
	apiVersion, kind, name string
	namespace              string
	list                   *yaml.Node // the items of the List that it is in; nil for a document
	document               *yaml.Node
	index                  int // in list
}

func (s *stream) objects() (all []*object) {
	for _, document := range s.documents {
		all = append(all, s.objectsIn(document, resolve(document.Content[0]), nil, 0, 0)...)
	}
	return all
}

// maxLists bounds how deep Lists may nest.
const maxLists = 8

func (s *stream) objectsIn(document, node, list *yaml.Node, index, depth int) (all []*object) {
	kind := text1(get(node, "kind"))
	items := get(node, "items")
	if kind == "Template" { // of OpenShift
		items = get(node, "objects")
	}
	if (strings.HasSuffix(kind, "List") || kind == "Template") && items != nil && items.Kind == yaml.SequenceNode && depth < maxLists {
		for i, item := range items.Content {
			all = append(all, s.objectsIn(document, resolve(item), items, i, depth+1)...)
		}
		return all
	}
	if kind == "" {
		return nil
	}
	metadata := get(node, "metadata")
	return []*object{{
		stream: s, node: node, kind: kind, document: document, list: list, index: index,
		apiVersion: text1(get(node, "apiVersion")), name: text1(get(metadata, "name")), namespace: text1(get(metadata, "namespace")),
	}}
}

func (o *object) String() string {
	name := o.name
	if name == "" {
		name = text1(get(get(o.node, "metadata"), "generateName")) + "…"
	}
	if o.namespace != "" {
		name = o.namespace + "/" + name
	}
	return o.kind + " " + printable(name)
}

func (o *object) finding(line int, level Level, format string, args ...any) Finding {
	return Finding{File: o.stream.file.Name, Line: line, Object: o.String(), Level: level, Text: fmt.Sprintf(format, args...)}
}

// sameNamespace reports whether one object can refer to the other. A manifest without a namespace gets one when it is
// applied, so it matches any.
func (o *object) sameNamespace(other *object) bool {
	return o.namespace == other.namespace || o.namespace == "" || other.namespace == ""
}

// printable makes a text of a manifest safe for a finding of one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}
