package migrate

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The names of the Secrets Store CSI Driver.
const (
	storeDriver = "secrets-store.csi.k8s.io"
	storeGroup  = "secrets-store.csi.x-k8s.io/" // v1 and v1alpha1
	storeKind   = "SecretProviderClass"

	attributeClass = "secretProviderClass"
	azureProvider  = "azure"
)

func (o *object) isClass() bool {
	return o.kind == storeKind && strings.HasPrefix(o.apiVersion, storeGroup)
}

// class is a SecretProviderClass.
type class struct {
	*object
	uses    int     // the number of volumes of pods that use it
	carried int     // the number of them that became volumes of this driver
	losses  int     // the number of its settings without a counterpart
	sync    *syncer // in its place for its Secrets; nil if there is none
}

func newClass(o *object) *class { return &class{object: o} }

// provider returns the name of the provider; empty if it is missing, as in a patch, or no text.
func (c *class) provider() string {
	if node := get(c.node, "spec", "provider"); node != nil && node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" {
		return node.Value
	}
	return ""
}

func (c *class) String() string { return storeKind + " " + printable(c.name) }

// lost reports a setting of the class without a counterpart, in its line.
func (c *class) lost(p *plan, at *yaml.Node, format string, args ...any) {
	c.losses++
	p.findings = append(p.findings, c.finding(line(at, c.node), Lost, format, args...))
}

// use is a volume that uses a class.
type use struct {
	class *class
	csi   *yaml.Node
}

// isStoreVolume reports whether a volume is one of the Secrets Store CSI Driver.
func isStoreVolume(v podVolume) bool { return text1(get(v.node, "csi", "driver")) == storeDriver }

// planClasses plans the change of every volume of the Azure provider.
func (m *migration) planClasses(p *plan) {
	for _, v := range p.workload.volumes() {
		if !isStoreVolume(v) {
			continue
		}
		csi := get(v.node, "csi")
		m.explained[csi] = true
		c := m.classOf(p, v)
		if c == nil {
			continue
		}
		switch name := c.provider(); {
		case name == "" || name == azureProvider:
			m.planClass(p, v, csi, c)
		case isPlaceholder(name) || strings.EqualFold(strings.TrimSpace(name), azureProvider):
			p.problem(v.node, "the provider of the %s is %s; write %s, or "+buildOrRender, c, quote(printable(name)), azureProvider)
		default:
			m.note(p.object, v.node.Line, "the volume %s stays: its class is of the provider %s", quote(printable(v.name)), quote(printable(name)))
		}
	}
}

// classOf returns the class of a volume, or nil after a problem. If several classes have the name, it uses none: overlays and patches
// repeat names, and the files do not show which class is applied.
func (m *migration) classOf(p *plan, v podVolume) *class {
	name := text1(get(v.node, "csi", "volumeAttributes", attributeClass))
	var found []*class
	for _, c := range m.classes {
		if c.name == name && c.sameNamespace(p.object) {
			c.uses++
			found = append(found, c)
		}
	}
	switch {
	case name == "":
		p.problem(v.node, "the volume %s names no %s", quote(printable(v.name)), attributeClass)
		return nil
	case len(found) == 0:
		p.problem(v.node, "the %s %s of the volume %s is not among the manifests; give its file as well", storeKind, quote(printable(name)), quote(printable(v.name)))
		return nil
	case len(found) > 1:
		var where []string
		for _, c := range found {
			where = append(where, fmt.Sprintf("%s:%d", c.stream.file.Name, c.node.Line))
		}
		p.problem(v.node, "%d classes have the name %s (%s), and kvcsi does not guess which one is applied; %s", len(found), quote(printable(name)),
			strings.Join(where, ", "), buildAdvice)
		return nil
	}
	c := found[0]
	if o := m.patchOfPod(p.workload); o != nil {
		p.problem(v.node, "a volume of it is patched at %s:%d; %s", o.stream.file.Name, o.node.Line, buildAdvice)
		return nil
	}
	if at := m.patchOf(c); at != nil {
		p.problem(v.node, "the %s is patched at %s:%d; %s", c, at.stream.file.Name, at.node.Line, buildAdvice)
		return nil
	}
	return c
}

// patchOfPod returns another object of the kind and name of the workload that sets the class of a volume, without its driver.
func (m *migration) patchOfPod(w *workload) (patch *object) {
	for _, o := range m.objects {
		if o == w.object || o.kind != w.kind || o.name != w.name {
			continue
		}
		visit(o.node, func(_ []string, node *yaml.Node) bool {
			if attributes := get(node, "volumeAttributes"); get(attributes, attributeClass) != nil && get(node, "driver") == nil {
				patch = o
			}
			return true
		})
	}
	return patch
}

// buildAdvice ends with the command that gives the manifests as they are applied.
const buildAdvice = "give what is applied: kustomize build . | kvcsi migrate -f -"

// planClass turns one volume into one of this driver.
func (m *migration) planClass(p *plan, v podVolume, csi *yaml.Node, c *class) {
	if list := get(c.node, "spec", "secretObjects"); list != nil && list.Kind != yaml.SequenceNode && list.ShortTag() != "!!null" {
		p.problem(v.node, "secretObjects of the %s is not a list", c)
		return
	}
	if c.provider() == "" {
		p.problem(v.node, "the %s has no provider, as a patch has none; %s", c, buildAdvice)
		return
	}
	if p.runsOnWindows() {
		p.problem(v.node, "the pod is for Windows nodes, where this driver does not run; it keeps its volume")
		return
	}
	if twice := doubled(csi); twice != nil {
		p.problem(twice, "the key %s is there twice", quote(twice.Value))
		return
	}
	reader := newClassReader(p, c, v, csi)
	s := reader.settings()
	reader.ignored()
	keeps := false
	switch {
	case len(c.syncs()) == 0:
	case m.options.SyncImage == "":
		keeps = m.planSynced(p, c)
	case !p.blocked:
		reader.planSync(m, s)
	}
	if p.blocked {
		return
	}
	if !isTrue(get(csi, "readOnly")) { // the Secrets Store CSI Driver refuses such a pod too
		p.problem(v.node, "the volume %s is not read-only, and the driver refuses such volumes; set readOnly: true under csi", quote(printable(v.name)))
		return
	}
	key, _ := pair(csi, "volumeAttributes")
	p.check(v.node, s)
	if keeps {
		p.planBeside(v, s, c)
		return
	}
	p.changes = append(p.changes,
		change{kind: setScalar, target: get(csi, "driver"), key: DriverName},
		change{kind: replacePair, parent: resolve(csi), target: key, key: "volumeAttributes", values: []*yaml.Node{s.attributes()}})
	if key, _ := pair(csi, nodeSecret); key != nil && s.secretRef == "" {
		p.note(key, "the %s of the volume goes: the provider did not use it beside another identity, and this driver refuses it", nodeSecret)
		p.changes = append(p.changes, change{kind: removePair, parent: csi, target: key})
	}
	p.uses = append(p.uses, use{c, csi})
}

const nodeSecret = "nodePublishSecretRef" //nolint:gosec // G101: the name of a field

// runsOnWindows reports whether the pod is bound to Windows nodes.
func (w *workload) runsOnWindows() bool {
	isWindows := func(node *yaml.Node) bool { return strings.EqualFold(strings.TrimSpace(text1(node)), "windows") }
	if isWindows(get(w.spec, "os", "name")) {
		return true
	}
	labels := []string{"kubernetes.io/os", "beta.kubernetes.io/os"}
	for _, label := range labels {
		if isWindows(get(w.spec, "nodeSelector", label)) {
			return true
		}
	}
	terms, _ := items(get(w.spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"))
	for _, term := range terms {
		expressions, _ := items(get(term, "matchExpressions"))
		for _, e := range expressions {
			values, _ := items(get(e, "values"))
			if slices.Contains(labels, text1(get(e, "key"))) && text1(get(e, "operator")) == "In" && slices.ContainsFunc(values, isWindows) {
				return true
			}
		}
	}
	return false
}

// retireClasses says what becomes of the classes whose pods were migrated. Only with [Options.RemoveClasses] are they removed: other pods,
// in files that are not given here, may use them.
func (m *migration) retireClasses() {
	keeps := func(c *class) bool { return len(c.syncs()) > 0 && c.sync == nil }
	left := map[*yaml.Node]int{} // the number of items removed from a List
	for _, c := range m.classes {
		switch {
		case c.provider() != azureProvider:
			continue
		case c.uses == 0 && (!m.options.RemoveClasses || keeps(c)):
			m.note(c.object, c.node.Line, "no pod among the files uses it; if one does, give its file as well")
			continue
		case keeps(c):
			m.note(c.object, c.node.Line, "stays for the Secrets that it makes (secretObjects)")
			continue
		case c.carried < c.uses || c.losses > 0:
			m.note(c.object, c.node.Line, "stays, because not all of it was carried over")
			continue
		case !m.options.RemoveClasses:
			m.note(c.object, c.node.Line, "stays, but its pods in these files do not use it any more; --remove-classes removes it, if no other pod uses it")
			continue
		}
		if mention := m.mention(c); mention != nil {
			m.note(c.object, c.node.Line, "stays, because line %d of %s names it", mention.line, mention.file)
			continue
		}
		gone := change{kind: removeDocument, target: c.document}
		if c.list != nil {
			if left[c.list]++; left[c.list] == len(c.list.Content) {
				m.note(c.object, c.node.Line, "is needed no more but stays, because a List must hold something; delete the file")
				continue
			}
			gone.kind, gone.parent, gone.target = removeItem, c.list, c.list.Content[c.index]
		}
		if err := c.stream.add([]change{gone}); err != nil {
			m.note(c.object, c.node.Line, "is needed no more but stays in the file: %v", err)
			continue
		}
		m.note(c.object, c.node.Line, "is gone from the manifests: its pods name their objects themselves; delete it from the cluster when no other pod uses it")
	}
}
