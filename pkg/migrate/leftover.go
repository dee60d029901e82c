package migrate

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// visit calls f for every node below a node, with the keys that lead to it; "-" is an item of a list. Nothing below a node for which f
// returns false is visited. Aliases are followed, but each node is visited once: aliases of aliases would multiply the work.
func visit(node *yaml.Node, f func(keys []string, node *yaml.Node) bool) {
	seen := map[*yaml.Node]bool{}
	var below func(node *yaml.Node, keys []string)
	below = func(node *yaml.Node, keys []string) {
		node = resolve(node)
		if seen[node] || len(keys) > maxDepth || !f(keys, node) {
			return
		}
		seen[node] = true
		for i, child := range node.Content {
			switch {
			case node.Kind != yaml.MappingNode:
				below(child, append(keys, "-"))
			case i%2 == 1:
				below(child, append(keys, node.Content[i-1].Value))
			}
		}
	}
	below(node, nil)
}

// storeInText finds a volume of the other driver in a text: a patch in a Kustomization, a manifest in a ConfigMap or in values of Helm.
var storeInText = regexp.MustCompile(`driver"?\s*:\s*["']?secrets-store\.csi\.k8s\.io`)

// classInText finds a class, or a patch of one, in a text.
var classInText = regexp.MustCompile(`kind"?\s*:\s*["']?SecretProviderClass\b`)

// volumePatchInText finds an operation of a JSON patch that gives a volume another class.
var volumePatchInText = regexp.MustCompile(`path"?\s*:\s*["']?[^\s"']*/` + attributeClass + `\b`)

// lastApplied is an annotation in which kubectl keeps the manifest of the last apply. The next apply replaces it.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// The ends of findings about what is not in the manifests as they are applied.
const (
	buildOrRender = "give the manifests that this makes: helm template . or kustomize build . | kvcsi migrate -f -"
	renderAdvice  = "kvcsi changes pods and pod templates only; " + buildOrRender
)

// leftovers reports what the new documents of a file still have of the old tools and no finding has explained. This is the last step of
// every migration: whatever the planning did not understand is reported here.
func (m *migration) leftovers(s *stream, documents []*yaml.Node) {
	for _, document := range documents {
		owner := m.ownerIn(s, document)
		visit(document.Content[0], func(keys []string, node *yaml.Node) bool {
			if m.explained[node] || last(keys) == lastApplied {
				return false
			}
			text := leftover(keys, node)
			if text != "" {
				m.left(owner(node).finding(max(node.Line, 1), NotMigrated, "%s: %s", text, renderAdvice))
			}
			return text == ""
		})
	}
}

// left reports something that is no workload, or not one that kvcsi can change.
func (m *migration) left(f Finding) {
	m.findings = append(m.findings, f)
	m.outcomes = append(m.outcomes, Workload{File: f.File, Line: f.Line, Object: f.Object, Why: []string{f.Text}})
}

func last(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return keys[len(keys)-1]
}

// leftover says what a node has of the old tools; empty for nothing.
func leftover(keys []string, node *yaml.Node) string {
	if node.Kind == yaml.ScalarNode {
		switch {
		case storeInText.MatchString(node.Value):
			return "a volume of the Secrets Store CSI Driver is in this text"
		case volumePatchInText.MatchString(node.Value):
			return "a patch of the class of a volume is in this text"
		case classInText.MatchString(node.Value):
			return "a " + storeKind + " is in this text"
		case node.Value == storeKind && last(keys) == "kind" && slices.Contains(keys, "target"):
			return "a patch of a " + storeKind + " is here"
		}
		return ""
	}
	class := text1(get(node, attributeClass))
	switch {
	case text1(get(node, "driver")) == storeDriver:
		return "a volume of the Secrets Store CSI Driver is left here"
	case get(node, "image") != nil && looksLikeAgent(node):
		return "acs-keyvault-agent is left here"
	case class != "":
		return "the " + storeKind + " " + quote(printable(class)) + " is named here"
	case last(keys) == "volumeAttributes" && get(node, "keyvaultName") != nil:
		return "parameters of the Azure provider are here"
	case isClassPatch(node):
		return "a patch of a " + storeKind + " is here"
	}
	return ""
}

// isClassPatch reports whether a mapping is an operation of a JSON patch (RFC 6902) on the parameters of a class, or on the class of a volume.
func isClassPatch(node *yaml.Node) bool {
	path := text1(get(node, "path"))
	return node.Kind == yaml.MappingNode && get(node, "op") != nil &&
		(strings.HasPrefix(path, "/spec/parameters") || strings.HasPrefix(path, "/spec/secretObjects") || strings.HasSuffix(path, "/"+attributeClass))
}

// ownerIn returns a function that finds the object of a node in a document; for a file without objects it is the file.
func (m *migration) ownerIn(s *stream, document *yaml.Node) func(*yaml.Node) *object {
	var objects []*object
	for _, o := range m.objects {
		if o.stream == s && o.document == document {
			objects = append(objects, o)
		}
	}
	return func(node *yaml.Node) *object {
		for _, o := range objects {
			if len(objects) == 1 || slices.Contains(s.ancestors(node), o.node) {
				return o
			}
		}
		return &object{stream: s, kind: "file", name: s.file.Name, node: document}
	}
}

// ancestors returns the nodes around a node, and itself.
func (s *stream) ancestors(node *yaml.Node) (all []*yaml.Node) {
	for ; node != nil; node = s.parents[node] {
		all = append(all, node)
	}
	return all
}

// mention is a place that names a class.
type mention struct {
	file string
	line int
}

// mention finds a place besides the migrated volumes that names a class: another volume, a patch, the values of a chart.
func (m *migration) mention(c *class) *mention {
	var found *mention
	for _, s := range m.streams {
		for _, document := range s.documents {
			visit(document.Content[0], func(keys []string, node *yaml.Node) bool {
				switch {
				case node == c.node || m.migratedVolumes[node]:
					return false
				case node.Kind != yaml.ScalarNode || node.Value != c.name:
				case last(keys) == attributeClass, last(keys) == "name" && slices.Contains(keys, "target"):
					found = &mention{file: s.file.Name, line: node.Line}
				}
				return true
			})
		}
	}
	return found
}
