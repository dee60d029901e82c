package migrate

import (
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// podPaths are the paths of the pod in an object of each kind. The API groups have changed since 2018, the paths have not.
var podPaths = map[string][]string{
	"Pod":                   {"spec"},
	"PodTemplate":           {"template", "spec"},
	"Deployment":            {"spec", "template", "spec"},
	"StatefulSet":           {"spec", "template", "spec"},
	"DaemonSet":             {"spec", "template", "spec"},
	"ReplicaSet":            {"spec", "template", "spec"},
	"ReplicationController": {"spec", "template", "spec"},
	"Job":                   {"spec", "template", "spec"},
	"CronJob":               {"spec", "jobTemplate", "spec", "template", "spec"},
}

// removedGroups are the releases of Kubernetes that removed an API group of the agent's time.
var removedGroups = map[string]string{
	"extensions/v1beta1": "1.16", "apps/v1beta1": "1.16", "apps/v1beta2": "1.16", "batch/v2alpha1": "1.21", "batch/v1beta1": "1.25",
}

// workload is an object with a pod.
type workload struct {
	*object
	spec *yaml.Node // of the pod
}

func newWorkload(o *object) *workload {
	group, _, grouped := strings.Cut(o.apiVersion, "/")
	if !grouped {
		group = ""
	}
	switch group {
	case "", "apps", "extensions", "batch":
	default:
		return nil // another kind of the same name
	}
	where, known := podPaths[o.kind]
	if !known {
		return nil
	}
	spec := get(o.node, where...)
	if spec == nil || spec.Kind != yaml.MappingNode {
		return nil
	}
	return &workload{object: o, spec: spec}
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
