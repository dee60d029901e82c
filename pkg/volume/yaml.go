package volume

import (
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The walk below reads YAML nodes itself, because decoding into structs would stop at the first problem of its own
// choosing, take 1 for "1", and look for duplicate keys in quadratic time.

// maxMarks bounds what can begin a node, and by that the memory a text can ask for: the library takes some 200 bytes
// for a node that may be two bytes of text. MaxEntries objects of five fields each have about as many.
const maxMarks = 16 * MaxEntries

// marks counts line ends, all five of YAML 1.1, and what else comes before a node. What it does not count (a tab after
// a "-") nests, and the library bounds depth.
func marks(text string) (n int) {
	for _, mark := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029", ",", "[", "{", "- ", ": ", "? "} {
		n += strings.Count(text, mark)
	}
	return n
}

// yamlList reads one YAML document that is a list. Empty text is an empty list.
func (p *parser) yamlList(attribute, text string) []*yaml.Node {
	if n := marks(text); n > maxMarks {
		p.problem(attribute, "is too large, at most %d entries", MaxEntries)
		return nil
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		p.yamlError(attribute, err)
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		p.problemAt(second.Line, attribute, "line %d: a second YAML document begins", second.Line)
		return nil
	case !errors.Is(err, io.EOF):
		p.yamlError(attribute, err)
		return nil
	}
	list := document.Content[0]
	if reference := findReference(list); reference != nil {
		p.problemAt(reference.Line, attribute, "line %d: anchors and aliases are not taken", reference.Line)
		return nil
	}
	if list.Kind != yaml.SequenceNode || list.ShortTag() != "!!seq" {
		p.problemAt(list.Line, attribute, "must be a YAML list, not %s", yamlType(list))
		return nil
	}
	if len(list.Content) > MaxEntries {
		p.problem(attribute, "has more than %d entries", MaxEntries)
		return nil
	}
	return list.Content
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// yamlError takes the library's text, "yaml: line 3: did not find expected key".
func (p *parser) yamlError(attribute string, err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if match := yamlLine.FindStringSubmatch(text); match != nil {
		line, _ = strconv.Atoi(match[1])
	}
	if len(text) > 2*maxQuoted || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		text = quote(text)
	}
	p.problemAt(line, attribute, "is not YAML: %s", text)
}

// findReference finds an anchor or an alias. Nobody needs them in a list of files; refused, they need no bound.
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

// yamlType is what a reader of YAML calls a node.
func yamlType(node *yaml.Node) string {
	switch tag := node.ShortTag(); tag {
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "nothing"
	case "!!map":
		return "a mapping"
	case "!!seq":
		return "a list"
	case "!!timestamp":
		return "a date"
	default:
		return "a value of type " + quote(tag)
	}
}

// mapping is a YAML mapping whose keys are strings, each there once.
type mapping struct {
	parser *parser
	source string // "objects[0]"
	node   *yaml.Node
	keys   []string // in the order of the document
	fields map[string]*yaml.Node
}

// maxFields is far more than any mapping has.
const maxFields = 64

// yamlMapping reads a mapping; nil after a problem with the whole of it.
func (p *parser) yamlMapping(source string, node *yaml.Node) *mapping {
	m := &mapping{parser: p, source: source, node: node, fields: make(map[string]*yaml.Node)}
	if node.Kind != yaml.MappingNode || node.ShortTag() != "!!map" {
		m.problem("", node, "must be a YAML mapping, not %s", yamlType(node))
		return nil
	}
	if len(node.Content) > 2*maxFields {
		m.problem("", node, "has more than %d fields", maxFields)
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			m.problem("", key, "has a key that is not a string but %s", yamlType(key))
		case m.fields[key.Value] != nil:
			m.problem(key.Value, key, "is there twice")
		default:
			m.keys = append(m.keys, key.Value)
			m.fields[key.Value] = value
		}
	}
	return m
}

// problem is about a field, or about the mapping itself if field is empty.
func (m *mapping) problem(field string, node *yaml.Node, format string, args ...any) {
	where := m.source
	if field != "" {
		where += "." + asField(field)
	}
	m.parser.problemAt(node.Line, where, format, args...)
}

// unknown reports the fields that are not among those allowed, with the one that may have been meant.
func (m *mapping) unknown(allowed []string) {
	for _, key := range m.keys {
		if !slices.Contains(allowed, key) {
			m.problem(key, m.fields[key], "unknown field%s", didYouMean(m.parser.nearest(key, allowed)))
		}
	}
}

// text reads a string. Not ok if the field is absent, or is no string, which is a problem.
func (m *mapping) text(field string) (text string, ok bool) {
	node := m.fields[field]
	if node == nil {
		return "", false
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" {
		return node.Value, true
	}
	hint := ""
	if node.Kind == yaml.ScalarNode && node.Value != "" {
		hint = ", put it in quotes"
	}
	m.problem(field, node, "must be a string, not %s%s", yamlType(node), hint)
	return "", false
}

// boolean reads true or false; false if the field is absent.
func (m *mapping) boolean(field string) bool {
	node := m.fields[field]
	if node == nil {
		return false
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!bool" {
		switch node.Value {
		case "true", "True", "TRUE":
			return true
		case "false", "False", "FALSE":
			return false
		}
	}
	m.problem(field, node, "must be true or false")
	return false
}
