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
	name     string
	node     *yaml.Node
	stream   *stream
	object   *object // nil in a file that is no manifest, such as values of Helm
	variable bool    // of a container: env or envFrom
}

// collectSecretRefs finds every reference to a Secret: in pods, and also in Ingresses, Gateways, ServiceAccounts and resources of operators.
func (m *migration) collectSecretRefs(s *stream, o *object, node *yaml.Node) {
	visit(node, func(keys []string, value *yaml.Node) bool {
		if o != nil && o.isClass() && len(keys) >= 2 && keys[1] == "secretObjects" {
			return false
		}
		if value.Kind == yaml.ScalarNode && namesSecret(keys) {
			name := value.Value[strings.LastIndexByte(value.Value, '/')+1:] // in annotations: namespace/name
			variable := slices.Contains(keys, "env") || slices.Contains(keys, "envFrom")
			m.secretRefs = append(m.secretRefs, secretRef{name: name, node: value, stream: s, object: o, variable: variable})
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
// class has its volume, so a pod stays if it is the only one for which a reader has its Secret. If only its own variables read the Secret,
// keeps is true: the volume stays for the Secret, and the files come from a new one.
func (m *migration) planSynced(p *plan, c *class) (keeps bool) {
	var unread []string
	for _, name := range c.syncs() {
		variable, own, other := m.readers(p.workload, c, name)
		switch {
		case own != nil:
			p.problem(own.node, "the pod reads the Secret %s, which the %s makes (secretObjects) and this driver does not; let the container read the file instead, or keep the Secret with keyvault-csi-sync (--sync-image)",
				quote(printable(name)), storeKind)
		case variable != nil:
			keeps = true
		case other == nil:
			unread = append(unread, name)
		case m.keptByReader(p.workload, c, name):
			p.note(p.node, "the Secret %s stays: another pod of the %s reads it and keeps its volume", quote(printable(name)), storeKind)
		default:
			p.problem(p.node, "the Secret %s, which the %s makes while this pod runs, is read in line %d of %s (%s); the pod keeps its volume; keyvault-csi-sync can keep the Secret (--sync-image)",
				quote(printable(name)), storeKind, other.node.Line, other.stream.file.Name, other.where())
		}
	}
	for _, name := range unread {
		if !keeps {
			c.lost(p, get(c.node, "spec", "secretObjects"), "secretObjects: this driver writes files only, the Secret %s is not kept any more when its last pod is migrated; keyvault-csi-sync can keep it (--sync-image)",
				quote(printable(name)))
		}
	}
	return keeps
}

// keptFolder is where the containers have volumes that stay for their Secrets only: the kubelet mounts no volume that no container mounts.
const keptFolder = "/var/run/" + storeDriver + "/"

// planBeside adds a new volume for the files, and keeps the one of the class for its Secrets, at a path of its own.
func (p *plan) planBeside(v podVolume, s *settings, c *class) {
	var mounts []mount
	for _, container := range p.containers(initContainers, mainContainers, debugging) {
		mounts = append(mounts, slices.DeleteFunc(container.mounts(), func(m mount) bool { return m.volume != v.name })...)
	}
	if !slices.ContainsFunc(mounts, func(m mount) bool { return !strings.HasPrefix(m.path, keptFolder) }) {
		p.note(v.node, "the volume %s stays for the Secrets of the %s, which the pod reads as variables", quote(printable(v.name)), c)
		return
	}
	const suffix, longest = "-files", 63 // of a volume's name (RFC 1123)
	name := v.name[:min(len(v.name), longest-len(suffix))] + suffix
	if _, taken := p.workload.volume(name); taken {
		name = p.freeName(v.name, 2)
	}
	p.changes = append(p.changes, change{kind: insertItems, parent: v.list, target: v.written, values: []*yaml.Node{mapping("name", name, "csi", s.csi())}})
	for _, m := range mounts {
		p.changes = append(p.changes, change{kind: setScalar, target: get(m.node, "name"), key: name})
	}
	kept := mapping("name", v.name, "mountPath", keptFolder+v.name, "readOnly", boolean("true"))
	p.changes = append(p.changes, change{kind: insertItems, parent: mounts[0].list, target: mounts[0].written, values: []*yaml.Node{kept}})
	p.note(v.node, "the files move to the new volume %s; the volume %s and the %s stay for the Secrets that the pod reads as variables, mounted at %s",
		quote(printable(name)), quote(printable(v.name)), c, printable(keptFolder+v.name))
}

func (r *secretRef) where() string {
	if r.object == nil {
		return "no object"
	}
	return r.object.String()
}

// readers returns references to the Secret: in a variable of the workload's pod, elsewhere in the workload, and elsewhere. Each is nil if
// there is none.
func (m *migration) readers(w *workload, c *class, name string) (variable, own, other *secretRef) {
	for i, ref := range m.secretRefs {
		switch {
		case ref.name != name || ref.object != nil && !ref.object.sameNamespace(c.object):
		case ref.object != w.object:
			other = &m.secretRefs[i]
		case ref.variable:
			variable = &m.secretRefs[i]
		default:
			own = &m.secretRefs[i]
		}
	}
	return variable, own, other
}

// keptByReader reports whether another pod that uses the class reads the Secret. It stays, and with it the Secret.
func (m *migration) keptByReader(w *workload, c *class, name string) bool {
	return slices.ContainsFunc(m.workloads, func(other *workload) bool {
		if other.object == w.object || !other.sameNamespace(c.object) {
			return false
		}
		variable, own, _ := m.readers(other, c, name)
		return (variable != nil || own != nil) && slices.ContainsFunc(other.volumes(), func(v podVolume) bool {
			return isStoreVolume(v) && text1(get(v.node, "csi", "volumeAttributes", attributeClass)) == c.name
		})
	})
}
