package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// syncs returns the names of the Kubernetes Secrets that the Secrets Store CSI Driver writes for the pods of the class.
func (c *class) syncs() (names []string) {
	objects, _ := items(get(c.node, "spec", "secretObjects"))
	for _, o := range objects {
		names = append(names, text1(get(o, "secretName")))
	}
	return names
}

// secretRef is a reference to a Kubernetes Secret somewhere in the manifests.
type secretRef struct {
	name   string
	node   *yaml.Node
	stream *stream
	object *object // nil in a file that is no manifest, such as values of Helm
}

// collectSecretRefs finds every reference to a Secret: in pods, and also in Ingresses, Gateways, ServiceAccounts and resources of operators.
func (m *migration) collectSecretRefs(s *stream, o *object, node *yaml.Node) {
	visit(node, func(keys []string, value *yaml.Node) bool {
		if o != nil && o.isClass() && len(keys) >= 2 && keys[1] == "secretObjects" {
			return false
		}
		if value.Kind == yaml.ScalarNode && namesSecret(keys) {
			name := value.Value[strings.LastIndexByte(value.Value, '/')+1:] // in annotations: namespace/name
			m.secretRefs = append(m.secretRefs, secretRef{name: name, node: value, stream: s, object: o})
		}
		return true
	})
}

// namesSecret reports whether the text below the keys is the name of a Secret: secretName, existingSecret, imagePullSecrets[].name,
// secretKeyRef.name, projected.sources[].secret.name, certificateRefs[].name.
func namesSecret(keys []string) bool {
	isSecret := func(key string) bool {
		return strings.Contains(strings.ToLower(key), "secret") && key != attributeClass || key == "certificateRefs"
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == "-" })
	n := len(keys)
	return n > 0 && isSecret(keys[n-1]) || n > 1 && keys[n-1] == "name" && isSecret(keys[n-2])
}

// planSynced decides what becomes of a pod whose class also writes Kubernetes Secrets. Such a Secret is there while one of the pods of the
// class runs, so a pod stays if it is the only one for which a reader has its Secret.
func (m *migration) planSynced(p *plan, c *class) {
	for _, name := range c.syncs() {
		own, other := m.readers(p.workload, c, name)
		switch {
		case own != nil:
			p.problem(own.node, "the pod reads the Secret %s, which the %s makes (secretObjects) and this driver does not; let the container read the file instead, then migrate again",
				quote(printable(name)), storeKind)
		case other == nil:
			c.lost(p, get(c.node, "spec", "secretObjects"), "secretObjects: this driver writes files only, the Secret %s is not kept any more when its last pod is migrated", quote(printable(name)))
		case m.keptByReader(p.workload, c, name):
			p.note(p.node, "the Secret %s stays: another pod of the %s reads it and is not migrated", quote(printable(name)), storeKind)
		default:
			p.problem(p.node, "the Secret %s, which the %s makes while this pod runs, is read in line %d of %s (%s); the pod keeps its volume",
				quote(printable(name)), storeKind, other.node.Line, other.stream.file.Name, other.where())
		}
	}
}

func (r *secretRef) where() string {
	if r.object == nil {
		return "no object"
	}
	return r.object.String()
}

// readers returns a reference to the Secret within the workload's pod, and one elsewhere; nil if there is none.
func (m *migration) readers(w *workload, c *class, name string) (own, other *secretRef) {
	for i, ref := range m.secretRefs {
		if ref.name != name || ref.object != nil && !ref.object.sameNamespace(c.object) {
			continue
		}
		if ref.object == w.object {
			own = &m.secretRefs[i]
		} else {
			other = &m.secretRefs[i]
		}
	}
	return own, other
}

// keptByReader reports whether another pod that uses the class reads the Secret. It stays, and with it the Secret.
func (m *migration) keptByReader(w *workload, c *class, name string) bool {
	return slices.ContainsFunc(m.workloads, func(other *workload) bool {
		if other.object == w.object || !other.sameNamespace(c.object) {
			return false
		}
		own, _ := m.readers(other, c, name)
		return own != nil && slices.ContainsFunc(other.volumes(), func(v podVolume) bool {
			return isStoreVolume(v) && text1(get(v.node, "csi", "volumeAttributes", attributeClass)) == c.name
		})
	})
}
