package migrate

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// The functions below read a tree as the API server does: with aliases and merge keys. All of them accept nil and nodes of
// any kind.

// resolve returns the node of an alias, and any other node unchanged.
func resolve(node *yaml.Node) *yaml.Node {
	for node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// maxMerges bounds merge keys within merge keys, because each level multiplies the work.
const maxMerges = 4

// pair finds a key of a mapping, and its value as written (perhaps an alias). A key of the mapping comes before one that is
// merged in.
func pair(node *yaml.Node, name string) (key, value *yaml.Node) { return pairIn(node, name, 0) }

func pairIn(node *yaml.Node, name string, depth int) (key, value *yaml.Node) {
	node = resolve(node)
	if node == nil || node.Kind != yaml.MappingNode || depth > maxMerges {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if k := resolve(node.Content[i]); k.Kind == yaml.ScalarNode && k.Value == name && !isMerge(k) {
			return node.Content[i], node.Content[i+1]
		}
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if !isMerge(node.Content[i]) {
			continue
		}
		merged := []*yaml.Node{node.Content[i+1]}
		if list := resolve(merged[0]); list.Kind == yaml.SequenceNode {
			merged = list.Content
		}
		for _, m := range merged {
			if key, value = pairIn(m, name, depth+1); key != nil {
				return key, value
			}
		}
	}
	return nil, nil
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" }

// get returns the value of a key with aliases resolved, or nil.
func get(node *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		_, value := pair(node, name)
		if node = resolve(value); node == nil {
			return nil
		}
	}
	return node
}

// items returns the entries of a list with aliases resolved, and the entries as written.
func items(node *yaml.Node) (resolved, written []*yaml.Node) {
	node = resolve(node)
	if node == nil || node.Kind != yaml.SequenceNode {
		return nil, nil
	}
	for _, item := range node.Content {
		resolved = append(resolved, resolve(item))
	}
	return resolved, node.Content
}

// text1 returns the text of a scalar, or nothing for other nodes and null.
func text1(node *yaml.Node) string {
	node = resolve(node)
	if node == nil || node.Kind != yaml.ScalarNode || node.ShortTag() == "!!null" {
		return ""
	}
	return node.Value
}

// isTrue reports whether the API server reads a node as true.
func isTrue(node *yaml.Node) bool {
	return node != nil && node.ShortTag() == "!!bool" && strings.EqualFold(node.Value, "true")
}

// doubled finds a key that a mapping below node has twice: YAML libraries differ in which one they use.
func doubled(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode {
				continue
			}
			if seen[key.Value] {
				return key
			}
			seen[key.Value] = true
		}
	}
	for _, child := range node.Content {
		if found := doubled(child); found != nil {
			return found
		}
	}
	return nil
}

// sameTree compares the values of two trees, not their style.
func sameTree(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Anchor != b.Anchor || a.Value != b.Value || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind != yaml.DocumentNode && a.Kind != yaml.AliasNode && a.ShortTag() != b.ShortTag() {
		return false
	}
	for i := range a.Content {
		if !sameTree(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// The functions below make trees.

// scalar makes a text. One with a placeholder is quoted, because its value may look like a number.
func scalar(value string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if placeholder.MatchString(value) {
		node.Style = yaml.SingleQuotedStyle // not double quotes: an expression of Helm may have some
	}
	return node
}

func boolean(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: value}
}

// mapping takes alternating keys and values; a value is a string or a node.
func mapping(pairs ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(pairs); i += 2 {
		put(m, pairs[i].(string), pairs[i+1])
	}
	return m
}

// put adds a pair to a mapping.
func put(m *yaml.Node, key string, value any) {
	node, isNode := value.(*yaml.Node)
	if !isNode {
		node = scalar(value.(string))
	}
	m.Content = append(m.Content, scalar(key), node)
}
