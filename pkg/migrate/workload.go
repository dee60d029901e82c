package migrate

import (
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// removedGroups has, for each API version that old manifests of the agent may have, the release of Kubernetes that
// removed it.
var removedGroups = map[string]string{
	"extensions/v1beta1": "1.16", "apps/v1beta1": "1.16", "apps/v1beta2": "1.16", "batch/v2alpha1": "1.21", "batch/v1beta1": "1.25",
}

// workload is a pod, or the pod of a template in an object of any kind: Deployments, and those of OpenShift, Argo, Knative or an operator.
type workload struct {
	*object
	spec *yaml.Node // of the pod
}

// maxDepth bounds how deep an object is searched.
const maxDepth = 32

// workloadsOf finds the pods of an object: every mapping with a list of containers. A patch of a template may have no containers, so the
// paths of the kinds of Kubernetes count as well.
func workloadsOf(o *object) (all []*workload) {
	if o.kind == "Pod" {
		if spec := get(o.node, "spec"); spec != nil && spec.Kind == yaml.MappingNode {
			return []*workload{{object: o, spec: spec}}
		}
		return nil
	}
	visit(o.node, func(keys []string, node *yaml.Node) bool {
		if node.Kind != yaml.MappingNode || !isPod(node) && !isTemplate(keys) {
			return true
		}
		all = append(all, &workload{object: o, spec: node})
		return false
	})
	return all
}

// isPod reports whether a mapping is the spec of a pod: it has a list of containers, each of which has a name or an image.
func isPod(node *yaml.Node) bool {
	containers, _ := items(get(node, mainContainers))
	return len(containers) > 0 && !slices.ContainsFunc(containers, func(c *yaml.Node) bool { return get(c, "name") == nil && get(c, "image") == nil })
}

// isTemplate reports whether a path ends as the one of a pod in a template: template.spec.
func isTemplate(path []string) bool {
	return len(path) >= 2 && path[len(path)-2] == "template" && path[len(path)-1] == "spec"
}

// container is one container of a pod, from any of the three lists.
type container struct {
	node, written *yaml.Node // the entry with aliases resolved, and as in the list
	list          *yaml.Node
	field         string // the list's name: "initContainers"
	name          string
}

func (w *workload) containers(fields ...string) (all []container) {
	for _, field := range fields {
		list := get(w.spec, field)
		nodes, written := items(list)
		for i, node := range nodes {
			all = append(all, container{node: node, written: written[i], list: list, field: field, name: text1(get(node, "name"))})
		}
	}
	return all
}

const (
	initContainers = "initContainers"
	mainContainers = "containers"
	debugging      = "ephemeralContainers"
)

func (c container) String() string {
	kind := "container"
	if c.field == initContainers {
		kind = "init container"
	}
	return kind + " " + quote(printable(c.name))
}

// mount is an entry of a container's volumeMounts.
type mount struct {
	node, written, list *yaml.Node
	volume, path        string
	sub                 string // subPath, cleaned; empty for the whole volume
	expression          bool   // it has a subPathExpr
	readOnly            bool
}

func (c container) mounts() (all []mount) {
	list := get(c.node, "volumeMounts")
	nodes, written := items(list)
	for i, node := range nodes {
		all = append(all, mount{
			node: node, written: written[i], list: list,
			volume: text1(get(node, "name")), path: path.Clean(text1(get(node, "mountPath"))),
			sub:        relative(text1(get(node, "subPath"))),
			expression: text1(get(node, "subPathExpr")) != "", readOnly: isTrue(get(node, "readOnly")),
		})
	}
	return all
}

// relative cleans a path below a volume; its root is the empty string.
func relative(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// below returns the path relative to a folder, if it is the folder or below it. Both are clean; the empty string is the root.
func below(p, folder string) (rest string, ok bool) {
	switch {
	case folder == "" || folder == "/":
		return strings.TrimPrefix(p, "/"), true
	case p == folder:
		return "", true
	}
	return strings.CutPrefix(p, folder+"/")
}

// mountFor returns the container's mount of a path: the one with the longest mount path.
func (c container) mountFor(p string) (found mount, rest string, ok bool) {
	for _, m := range c.mounts() {
		if r, in := below(path.Clean(p), m.path); in && (!ok || len(m.path) > len(found.path)) {
			found, rest, ok = m, r, true
		}
	}
	return found, rest, ok
}

// podVolume is an entry of a pod's volumes.
type podVolume struct {
	node, written, list *yaml.Node
	name                string
}

func (w *workload) volumes() (all []podVolume) {
	list := get(w.spec, "volumes")
	nodes, written := items(list)
	for i, node := range nodes {
		all = append(all, podVolume{node: node, written: written[i], list: list, name: text1(get(node, "name"))})
	}
	return all
}

func (w *workload) volume(name string) (podVolume, bool) {
	for _, v := range w.volumes() {
		if v.name == name {
			return v, true
		}
	}
	return podVolume{}, false
}

func (w *workload) serviceAccount() string {
	for _, field := range []string{"serviceAccountName", "serviceAccount"} {
		if name := text1(get(w.spec, field)); name != "" {
			return name
		}
	}
	return "default"
}

// plan is the planned changes of one workload.
type plan struct {
	*workload
	changes  []change
	findings []Finding
	blocked  bool // none of it may be done
	uses     []use
	logins   []string
}

// problem reports why the workload is not changed.
func (p *plan) problem(at *yaml.Node, format string, args ...any) {
	p.blocked = true
	p.findings = append(p.findings, p.finding(line(at, p.node), NotMigrated, format, args...))
}

// note reports something about a workload that is migrated.
func (p *plan) note(at *yaml.Node, format string, args ...any) {
	p.findings = append(p.findings, p.finding(line(at, p.node), Note, format, args...))
}

// line returns the line of a node or, if it is nil, of the node around it.
func line(node, fallback *yaml.Node) int {
	if node == nil {
		node = fallback
	}
	return node.Line
}
