package migrate

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// inBlock returns the lines of a value in block style, without indentation.
func inBlock(node *yaml.Node) []string {
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil // the check of the result reports it
	}
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// inFlow returns a value on one line: for JSON with everything in quotes, else as usual in brackets.
func inFlow(node *yaml.Node, quoted bool) string {
	switch node.Kind {
	case yaml.MappingNode:
		var pairs []string
		for i := 0; i+1 < len(node.Content); i += 2 {
			pairs = append(pairs, inFlow(node.Content[i], quoted)+": "+inFlow(node.Content[i+1], quoted))
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	case yaml.ScalarNode:
		if node.ShortTag() != "!!str" || !quoted && isPlain(node.Value) {
			return node.Value
		}
	}
	if node.Style == yaml.SingleQuotedStyle && !quoted {
		return "'" + strings.ReplaceAll(node.Value, "'", "''") + "'"
	}
	return quote(node.Value)
}

// isPlain reports whether a text needs no quotes. It returns false in doubt.
func isPlain(s string) bool {
	for i, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 && c != '/' || strings.IndexByte("0123456789-_./", c) < 0) {
			return false
		}
	}
	probe := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	return s != "" && probe.ShortTag() == "!!str" && !slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(s))
}

// quote returns a text in double quotes that YAML and JSON read alike.
func quote(s string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // encoding a string does not fail
	return strings.TrimSuffix(b.String(), "\n")
}
