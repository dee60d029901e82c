package volume

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// This file reads YAML nodes. Decoding into structs would stop at the first problem, accept the number 1 as the string
// "1", and compare keys in quadratic time.

// maxMarks bounds the number of nodes, and with it the memory of the YAML library: a node can be two bytes of text and
// needs about 200 bytes of memory. MaxEntries objects with five fields each have about as many marks.
const maxMarks = 16 * MaxEntries

// marks counts what can stand before a node: the five line ends of YAML 1.1 and the indicators. A tab after "-" is not
// counted, because it can only nest, and the library bounds the depth.
func marks(text string) (n int) {
	for _, mark := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029", ",", "[", "{", "- ", ": ", "? "} {
		n += strings.Count(text, mark)
	}
	return n
}

// TooManyNodes reports whether a YAML text could need more memory to parse than a list of [MaxEntries] objects needs.
func TooManyNodes(text string) bool { return marks(text) > maxMarks }

// yamlList returns the nodes of one YAML document that is a list. Empty text is an empty list.
func (p *parser) yamlList(attribute, text string) []*yaml.Node {
	if TooManyNodes(text) {
		p.problem(attribute, "is too large, at most %d entries", MaxEntries)
		return nil
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if err == nil {
		err = decoder.Decode(&second)
	}
	switch {
	case err == nil:
		p.problemAt(second.Line, attribute, "line %d: a second YAML document begins", second.Line)
		return nil
	case !errors.Is(err, io.EOF):
		p.yamlError(attribute, err)
		return nil
	case document.IsZero():
		return nil
	}
	list := document.Content[0]
	reference := findReference(list)
	switch {
	case reference != nil:
		p.problemAt(reference.Line, attribute, "line %d: anchors and aliases are not taken", reference.Line)
	case list.Kind != yaml.SequenceNode || list.ShortTag() != "!!seq":
		p.problemAt(list.Line, attribute, "must be a YAML list, not %s", yamlType(list))
	case len(list.Content) > MaxEntries:
		p.problem(attribute, "has more than %d entries", MaxEntries)
	default:
		return list.Content
	}
	return nil
}

// yamlError reports an error of the library, such as "yaml: line 3: did not find expected key".
func (p *parser) yamlError(attribute string, err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	_, _ = fmt.Sscanf(text, "line %d:", &line) // not every error has a line
	if len(text) > 2*maxQuoted || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		text = quote(text)
	}
	p.problemAt(line, attribute, "is not YAML: %s", text)
}

// findReference returns the first anchor or alias. A list of files does not need them. As they are refused, no limit on
// their expansion is needed.
func findReference(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return node
	}
	for _, child := range node.Content {
		if found := findReference(child); found != nil {
			return found
		}
	}
	return nil
}

// yamlTypes are the names of types in errors, by tag.
var yamlTypes = map[string]string{
	"!!str": "a string", "!!int": "a number", "!!float": "a number", "!!bool": "a boolean", "!!null": "nothing",
	"!!map": "a mapping", "!!seq": "a list", "!!timestamp": "a date",
}

func yamlType(node *yaml.Node) string {
	tag := node.ShortTag()
	if name, ok := yamlTypes[tag]; ok {
		return name
	}
	return "a value of type " + quote(tag)
}

// isString reports whether YAML reads a node as a string.
func isString(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str"
}

// mapping is a YAML mapping with unique string keys.
type mapping struct {
	parser *parser
	source string // for errors: "objects[0]"
	node   *yaml.Node
	names  []string // in the order of the document
	fields map[string]*yaml.Node
}

// maxFields is far more than any mapping needs.
const maxFields = 64

// yamlMapping reads a mapping of up to most fields. It returns nil if the node is not a mapping or has more.
func (p *parser) yamlMapping(source string, node *yaml.Node, most int) *mapping {
	m := &mapping{parser: p, source: source, node: node, fields: make(map[string]*yaml.Node)}
	switch {
	case node.Kind != yaml.MappingNode || node.ShortTag() != "!!map":
		m.problem("", "must be a YAML mapping, not %s", yamlType(node))
		return nil
	case len(node.Content) > 2*most:
		m.problem("", "has more than %d fields", most)
		return nil
	}
	for pair := range slices.Chunk(node.Content, 2) {
		key, value := pair[0], pair[1]
		switch {
		case !isString(key):
			p.problemAt(key.Line, source, "has a key that is not a string but %s", yamlType(key))
		case m.fields[key.Value] != nil:
			m.problemAt(key.Line, key.Value, "is there twice")
		default:
			m.names = append(m.names, key.Value)
			m.fields[key.Value] = value
		}
	}
	return m
}

// problem reports a problem with a field, or with the whole mapping if name is empty.
func (m *mapping) problem(name, format string, args ...any) {
	m.problemAt(cmp.Or(m.fields[name], m.node).Line, name, format, args...)
}

func (m *mapping) problemAt(line int, name, format string, args ...any) {
	where := m.source
	if name != "" {
		where += "." + asField(name)
	}
	m.parser.problemAt(line, where, format, args...)
}

// unknown reports the fields that are not among those allowed.
func (m *mapping) unknown(allowed []string) {
	for _, name := range m.names {
		if !slices.Contains(allowed, name) {
			m.problem(name, "unknown field%s", didYouMean(m.parser.nearest(name, allowed)))
		}
	}
}

// text reads a string. ok is false if the field is absent or has another type; another type is a problem.
func (m *mapping) text(name string) (text string, ok bool) {
	node := m.fields[name]
	switch {
	case node == nil:
		return "", false
	case isString(node):
		return node.Value, true
	}
	hint := ""
	if node.Kind == yaml.ScalarNode && node.Value != "" {
		hint = ", put it in quotes"
	}
	m.problem(name, "must be a string, not %s%s", yamlType(node), hint)
	return "", false
}

// boolean reads true or false. The default is false.
func (m *mapping) boolean(name string) (value bool) {
	node := m.fields[name]
	if node != nil && (node.ShortTag() != "!!bool" || node.Decode(&value) != nil) {
		m.problem(name, "must be true or false")
	}
	return value
}
