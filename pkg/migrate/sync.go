package migrate

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The types of Secrets that keyvault-csi-sync writes.
const (
	secretOpaque = "Opaque"
	secretTLS    = "kubernetes.io/tls" //nolint:gosec // G101: the name of a type
)

var syncTypes = []string{secretOpaque, secretTLS, "kubernetes.io/dockerconfigjson", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth"}

// noNamespace stands for the namespace that a RoleBinding must have and the class does not show.
const noNamespace = "<namespace>"

// syncer is the keyvault-csi-sync that takes the place of a class for its Secrets.
type syncer struct {
	settings *settings  // of its volume, with the objects of the Secrets only
	whole    *settings  // of the pod that it was made for
	secrets  *yaml.Node // the list of its configuration
}

// planSync plans the keyvault-csi-sync of a class, the same for all its pods.
func (r *classReader) planSync(m *migration, s *settings) {
	c := r.class
	if c.sync != nil {
		if !maps.Equal(c.sync.whole.values, s.values) || c.sync.whole.secretRef != s.secretRef {
			r.plan.problem(r.at, "the %s makes Secrets, and its pods override its parameters differently; write one class for each", c)
		}
		return
	}
	if root := c.stream.documents[0].Content[0]; root.Style&yaml.FlowStyle != 0 {
		r.plan.problem(r.at, "the %s makes Secrets, and its JSON has one document, to which keyvault-csi-sync cannot be added; write it as YAML", c)
		return
	}
	if taken := m.taken(c); taken != nil {
		r.plan.problem(r.at, "the %s in line %d of %s has the name that keyvault-csi-sync gets for the %s; rename it",
			taken, taken.node.Line, taken.stream.file.Name, c)
		return
	}
	if placeholder.MatchString(c.name) && len(c.name) > longestSyncName-len(syncSuffix) {
		r.plan.problem(r.at, "the name of the %s is too long to add %s to it as it stands; give what is applied: helm template . | kvcsi migrate -f -", c, syncSuffix)
		return
	}
	secrets, used := r.syncSecrets()
	r.collisions(m)
	if r.plan.blocked {
		return
	}
	objects := list()
	for i, node := range r.list {
		if used[i] {
			objects.Content = append(objects.Content, withoutMode(node))
		}
	}
	own := &settings{secretRef: s.secretRef}
	for _, name := range s.names {
		own.set(name, s.values[name])
	}
	own.set(volume.AttributeObjects, strings.Join(inBlock(objects), "\n")+"\n")
	c.sync = &syncer{settings: own, whole: s, secrets: secrets}
}

// collisions reports what the keyvault-csi-sync of another class has already: its name, or one of its Secrets.
func (r *classReader) collisions(m *migration) {
	c := r.class
	for _, other := range m.classes {
		if other.sync == nil || !other.sameNamespace(c.object) {
			continue
		}
		if other.syncName() == c.syncName() {
			r.plan.problem(r.at, "the keyvault-csi-sync of the %s in line %d of %s has the name that the one of the %s gets, %s; write a shorter name",
				other, other.node.Line, other.stream.file.Name, c, printable(c.syncName()))
		}
		for _, name := range c.syncs() {
			if slices.Contains(other.syncs(), name) {
				r.plan.problem(r.at, "the %s makes the Secret %s as well as the %s, and each keyvault-csi-sync would take it from the other; write it in one class only",
					other, quote(printable(name)), c)
			}
		}
	}
}

// withoutMode returns a copy of an object of the class without its mode, which may keep keyvault-csi-sync from its own file: it is not root.
func withoutMode(object *yaml.Node) *yaml.Node {
	node := mapping()
	for i := 0; i+1 < len(object.Content); i += 2 {
		if object.Content[i].Value != "mode" {
			node.Content = append(node.Content, object.Content[i], object.Content[i+1])
		}
	}
	return node
}

// syncSecrets returns the configuration for secretObjects, and the indexes of the objects that it uses.
func (r *classReader) syncSecrets() (secrets *yaml.Node, used map[int]bool) {
	secrets, used = list(), map[int]bool{}
	objects, _ := items(get(r.class.node, "spec", "secretObjects"))
	for _, o := range objects {
		name, kind := r.syncText(o, "secretName"), secretOpaque
		if get(o, "type") != nil {
			kind = r.syncText(o, "type")
		}
		if name == "" || kind == "" {
			continue
		}
		if slices.ContainsFunc(secrets.Content, func(other *yaml.Node) bool { return text1(get(other, "name")) == name }) {
			r.plan.problem(r.at, "secretObjects of the %s has the Secret %s twice; write one entry with all keys", r.class, quote(printable(name)))
		}
		if !slices.Contains(syncTypes, kind) {
			r.plan.problem(r.at, "the Secret %s of the %s has the type %s, which keyvault-csi-sync does not write; it writes %s",
				quote(printable(name)), r.class, quote(printable(kind)), strings.Join(syncTypes, ", "))
			continue
		}
		entry := mapping("name", name)
		if kind != secretOpaque {
			put(entry, "type", kind)
		}
		for _, field := range []string{"labels", "annotations"} {
			if node := get(o, field); node != nil && node.Kind == yaml.MappingNode && len(node.Content) > 0 {
				marks := mapping()
				for i := 0; i+1 < len(node.Content); i += 2 {
					put(marks, text1(node.Content[i]), text1(node.Content[i+1]))
				}
				put(entry, field, marks)
			}
		}
		put(entry, "adopt", boolean("true"))
		put(entry, "data", r.syncData(o, name, kind, used))
		secrets.Content = append(secrets.Content, entry)
	}
	return secrets, used
}

// syncData returns the files for the keys of a Secret.
func (r *classReader) syncData(o *yaml.Node, name, kind string, used map[int]bool) *yaml.Node {
	data := mapping()
	entries, _ := items(get(o, "data"))
	for _, entry := range entries {
		key, object := r.syncText(entry, "key"), r.syncText(entry, "objectName")
		if key == "" || object == "" {
			continue
		}
		if get(data, key) != nil {
			r.plan.problem(r.at, "the Secret %s of the %s has the key %s twice", quote(printable(name)), r.class, quote(printable(key)))
			continue
		}
		i := slices.IndexFunc(r.found, func(o providerclass.Object) bool { return o.Alias == object })
		if i < 0 {
			r.plan.problem(r.at, "the key %s of the Secret %s is made from %s, which is not the name or alias of an object of the %s",
				quote(printable(key)), quote(printable(name)), quote(printable(object)), r.class)
			continue
		}
		used[i] = true
		put(data, key, r.fileFor(i, kind, key))
	}
	if len(entries) == 0 {
		r.plan.problem(r.at, "the Secret %s of the %s has no data", quote(printable(name)), r.class)
	}
	return data
}

// syncText returns a field of secretObjects, which the API server takes as a text only.
func (r *classReader) syncText(o *yaml.Node, name string) string {
	node := get(o, name)
	if node == nil || node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" || node.Value == "" {
		r.plan.problem(r.at, "secretObjects of the %s: %s is missing, or not a text", r.class, name)
		return ""
	}
	return node.Value
}

// fileFor returns the file of an object for a key. The Secrets Store CSI Driver takes the certificates of a file for tls.crt, and its
// key for tls.key.
func (r *classReader) fileFor(i int, kind, key string) string {
	field := map[string]string{"tls.crt": "chain", "tls.key": "key"}[key]
	if file := text1(get(r.list[i], field)); kind == secretTLS && field != "" && file != "" {
		return file
	}
	for _, field := range []string{"pem", "cert", "path"} {
		if file := text1(get(r.list[i], field)); file != "" {
			return file
		}
	}
	return r.found[i].Alias
}

const (
	syncSuffix      = "-secrets"
	longestSyncName = 63 // of a label
)

// syncName is the name of all objects of the keyvault-csi-sync of a class.
func (c *class) syncName() string {
	return strings.TrimRight(c.name[:min(len(c.name), longestSyncName-len(syncSuffix))], ".") + syncSuffix
}

// taken returns an object of the manifests that has the kind and name of one that is to be added.
func (m *migration) taken(c *class) *object {
	kinds := []string{"ServiceAccount", "ConfigMap", "Role", "RoleBinding", "Deployment"}
	for _, o := range m.objects {
		if slices.Contains(kinds, o.kind) && o.name == c.syncName() && o.sameNamespace(c.object) {
			return o
		}
	}
	return nil
}

// addSync adds the keyvault-csi-sync of a class to the file of the class, if a pod of the class was migrated.
func (m *migration) addSync() {
	for _, c := range m.classes {
		if c.sync == nil || c.carried == 0 {
			continue
		}
		var changes []change
		for _, document := range c.syncDocuments(m.options.SyncImage) {
			changes = append(changes, change{kind: appendDocument, values: []*yaml.Node{document}})
		}
		if err := c.stream.add(changes); err != nil {
			m.findings = append(m.findings, c.finding(c.node.Line, NotMigrated, "keyvault-csi-sync for its Secrets could not be added: %v", err))
			c.sync = nil
			continue
		}
		m.note(c.object, c.node.Line, "its Secrets are kept by keyvault-csi-sync, the Deployment %s at the end of the file; apply it first, and the pods when it is ready",
			printable(c.syncName()))
		namespace := cmp.Or(c.namespace, noNamespace)
		if c.namespace == "" {
			m.findings = append(m.findings, c.finding(c.node.Line, Lost, "it shows no namespace, and a RoleBinding needs one; write it in place of %s", noNamespace))
		}
		if c.sync.settings.values[volume.AttributeIdentity] == string(volume.Workload) {
			m.note(c.object, c.node.Line, "the identity needs a federated credential for the service account of keyvault-csi-sync too: system:serviceaccount:%s:%s",
				printable(namespace), printable(c.syncName()))
		}
	}
}
