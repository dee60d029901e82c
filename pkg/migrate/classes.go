package migrate

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// The names of the Secrets Store CSI Driver.
const (
	storeDriver = "secrets-store.csi.k8s.io"
	storeGroup  = "secrets-store.csi.x-k8s.io/" // v1 and v1alpha1
	storeKind   = "SecretProviderClass"
)

func (o *object) isClass() bool {
	return o.kind == storeKind && strings.HasPrefix(o.apiVersion, storeGroup)
}

// class is a SecretProviderClass.
type class struct {
	*object
	uses    int // the number of volumes of pods that use it
	carried int // the number of them that became volumes of this driver
	losses  int // the number of its settings without a counterpart
}

func newClass(o *object) *class { return &class{object: o} }

// use is a volume that uses a class.
type use struct{ class *class }

// planClasses plans the change of every volume of the Azure provider.
func (m *migration) planClasses(p *plan) {
	for _, v := range p.workload.volumes() {
		csi := get(v.node, "csi")
		if text1(get(csi, "driver")) != storeDriver {
			continue
		}
		name := text1(get(csi, "volumeAttributes", "secretProviderClass"))
		c := m.class(p, name)
		if c == nil {
			p.problem(v.node, "the %s %s of the volume %s is not among the manifests; give its file as well", storeKind, quote(printable(name)), quote(printable(v.name)))
			continue
		}
		if provider := text1(get(c.node, "spec", "provider")); provider != "azure" {
			continue // of another provider
		}
		c.uses++
		m.planClass(p, v, csi, c)
	}
}

func (m *migration) class(p *plan, name string) *class {
	for _, c := range m.classes {
		if c.name == name && c.sameNamespace(p.object) {
			return c
		}
	}
	return nil
}

// planClass turns one volume into one of this driver. The reference to the Secret stays.
func (m *migration) planClass(p *plan, v podVolume, csi *yaml.Node, c *class) {
	reader := &classReader{plan: p, class: c, parameters: get(c.node, "spec", "parameters"), at: v.node}
	secret := text1(get(csi, "nodePublishSecretRef", "name"))
	s := reader.settings(secret)
	reader.synced()
	driver := get(csi, "driver")
	key, _ := pair(csi, "volumeAttributes")
	if p.blocked || key == nil {
		return
	}
	if twice := doubled(csi); twice != nil {
		p.problem(twice, "the key %s is there twice", quote(twice.Value))
		return
	}
	if !isTrue(get(csi, "readOnly")) { // the Secrets Store CSI Driver refuses such a pod too
		p.problem(v.node, "the volume %s is not read-only, and the driver refuses such volumes; set readOnly: true under csi", quote(printable(v.name)))
		return
	}
	s.secretRef = secret
	p.check(v.node, s)
	p.changes = append(p.changes,
		change{kind: setScalar, target: driver, key: DriverName},
		change{kind: replacePair, parent: resolve(csi), target: key, key: "volumeAttributes", values: []*yaml.Node{s.attributes()}})
	p.uses = append(p.uses, use{c})
}

// retireClasses removes the classes that are not used any more.
func (m *migration) retireClasses() {
	left := map[*yaml.Node]int{} // the number of items removed from a List
	for _, c := range m.classes {
		if text1(get(c.node, "spec", "provider")) != "azure" {
			continue
		}
		switch {
		case c.uses == 0:
			m.find(c.object, c.node.Line, NotMigrated, "no pod among the manifests uses it; give the files of its pods as well")
			continue
		case c.carried < c.uses || c.losses > 0:
			m.find(c.object, c.node.Line, Note, "stays, because not all of it was carried over")
			continue
		}
		gone := change{kind: removeDocument, target: c.document}
		if c.list != nil {
			if left[c.list]++; left[c.list] == len(c.list.Content) {
				m.find(c.object, c.node.Line, Note, "is needed no more but stays, because a List must hold something; delete the file")
				continue
			}
			gone.kind, gone.parent, gone.target = removeItem, c.list, c.list.Content[c.index]
		}
		if err := c.stream.add([]change{gone}); err != nil {
			m.find(c.object, c.node.Line, Note, "is needed no more but stays in the file: %v", err)
			continue
		}
		m.find(c.object, c.node.Line, Note, "is gone from the manifests: its pods name their objects themselves; delete it from the cluster when no other pod uses it")
	}
}
