package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// classPatchInText finds an operation of a JSON patch of a class. Its target need not name the kind.
var classPatchInText = regexp.MustCompile(`path"?\s*:\s*["']?/spec/(parameters|secretObjects)\b`)

// patchOf returns the Kustomization, or the file of it, that changes a class: by a patch, or by a replacement.
func (m *migration) patchOf(c *class) (patch *object) {
	for _, o := range m.kustomizations {
		visit(o.node, func(_ []string, node *yaml.Node) bool {
			selected := func(target *yaml.Node) bool {
				kind := text1(get(target, "kind"))
				return kind != "" && selects(kind, storeKind) && selects(text1(get(target, "name")), c.name)
			}
			target := get(node, "target")
			switch {
			case node.Kind == yaml.ScalarNode && classInText.MatchString(node.Value) && strings.Contains(node.Value, c.name),
				selected(target), selected(get(node, "select")),
				get(target, "kind") == nil && classPatchInText.MatchString(text1(get(node, "patch"))) && selects(text1(get(target, "name")), c.name):
				patch = o
			}
			return patch == nil
		})
		if patch != nil {
			return patch
		}
	}
	return nil
}

// hasReplacements reports whether a document without a kind is a file of replacements of a Kustomization.
func hasReplacements(root *yaml.Node) bool {
	list, _ := items(root)
	return slices.ContainsFunc(append(list, root), func(node *yaml.Node) bool { return get(node, "targets") != nil })
}

// selects reports whether a field of a target, a regular expression, selects a value. An empty one selects all.
func selects(pattern, value string) bool {
	matched, err := regexp.MatchString("^(?:"+pattern+")$", value)
	return pattern == "" || matched || err != nil
}

// containerPatch is a patch of init containers, of kustomize, Flux or Argo CD.
type containerPatch struct {
	where string // its file and line
	node  *yaml.Node
	name  string // of the container; empty for a JSON patch, which has numbers
	text  string // of a patch in a text, which may name the container
}

var (
	jsonPatchInText  = regexp.MustCompile(`path"?\s*:\s*["']?/spec/([^\s"']*/)?(initContainers|volumes)(/\d|["'\s,}]|$)`)
	jsonPatchPath    = regexp.MustCompile(`^/spec/(.*/)?(initContainers|volumes)(/\d|$)`)
	mergePatchInText = regexp.MustCompile(`initContainers"?\s*:`)
)

// collectPatches finds the patches of init containers in a document: containers without an image, operations of JSON patches, and texts
// with one of both. A JSON patch counts the init containers and the volumes, of which a migration removes some; what it appends needs no number.
func (m *migration) collectPatches(s *stream, document *yaml.Node) {
	visit(document.Content[0], func(keys []string, node *yaml.Node) bool {
		p := containerPatch{where: fmt.Sprintf("%s:%d", s.file.Name, node.Line), node: node}
		switch name := text1(get(node, "name")); {
		case last(keys) == lastApplied:
			return false
		case node.Kind == yaml.ScalarNode && jsonPatchInText.MatchString(node.Value):
		case slices.Contains(keys, "fieldPaths") && strings.Contains(node.Value, initContainers): // of a replacement
		case node.Kind == yaml.ScalarNode && mergePatchInText.MatchString(node.Value):
			p.text = node.Value
		case get(node, "op") != nil && jsonPatchPath.MatchString(text1(get(node, "path"))):
		case len(keys) > 1 && keys[len(keys)-2] == initContainers && name != "" && get(node, "image") == nil &&
			(get(node, "volumeMounts") == nil || !looksLikeAgent(node)):
			p.name = name
		default:
			return true
		}
		m.patches = append(m.patches, p)
		return true
	})
}

// patchOfAgent returns where an init container is patched, or may be. What is migrated would lack what the patch says, and a JSON
// patch would change another container.
func (m *migration) patchOfAgent(c container) (where string) {
	inText := regexp.MustCompile(`name"?\s*:\s*["']?` + regexp.QuoteMeta(c.name) + `\b`)
	for _, p := range m.patches {
		numbered := p.name == "" && p.text == ""
		if p.node != c.node && (numbered || c.name != "" && (p.name == c.name || inText.MatchString(p.text))) {
			return p.where
		}
	}
	return ""
}
