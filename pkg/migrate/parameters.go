package migrate

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// classReader turns the parameters of a class into attributes.
type classReader struct {
	plan       *plan
	class      *class
	parameters *yaml.Node
	at         *yaml.Node // the volume that uses it
}

func (r *classReader) text(names ...string) string {
	for _, name := range names {
		if value := text1(get(r.parameters, name)); value != "" {
			return value
		}
	}
	return ""
}

func (r *classReader) isTrue(name string) bool { return strings.EqualFold(r.text(name), "true") }

// lost reports a parameter without a counterpart, with its line in the class.
func (r *classReader) lost(format string, args ...any) {
	r.class.losses++
	r.plan.findings = append(r.plan.findings, r.plan.finding(r.at.Line, Lost, "%s %s: %s", storeKind, printable(r.class.name), fmt.Sprintf(format, args...)))
}

func (r *classReader) problem(format string, args ...any) {
	r.plan.problem(r.at, "%s %s: %s", storeKind, printable(r.class.name), fmt.Sprintf(format, args...))
}

func (r *classReader) settings(secret string) *settings {
	s := &settings{}
	s.set(volume.AttributeVault, r.vault())
	r.identity(s, secret)
	if tenant := r.text("tenantID", "tenantId"); tenant != "" {
		s.set(volume.AttributeTenantID, tenant)
		if strings.EqualFold(tenant, "adfs") {
			r.problem("tenantID adfs: this driver speaks with Entra ID only")
		}
	}
	r.objects(s)
	return s
}

// vault returns the full URL, which shows the cloud.
func (r *classReader) vault() string {
	name := r.text("keyvaultName")
	if name == "" {
		r.problem("keyvaultName is missing")
	}
	switch cloud := r.text("cloudName"); {
	case cloud == "":
		return "https://" + strings.ToLower(name) + "." + clouds[0].suffix
	default:
		for _, known := range clouds {
			if strings.EqualFold(cloud, known.name) {
				return "https://" + strings.ToLower(name) + "." + known.suffix
			}
		}
		if strings.EqualFold(cloud, "AzureStackCloud") {
			r.plan.note(r.at, "cloudName AzureStackCloud: install the driver with --cloud custom, --authority-host and --vault-dns-suffix")
			return name
		}
		r.problem("cloudName %s is not a cloud of this driver", quote(printable(cloud)))
	}
	return name
}

// identity uses the provider's order: the node's identity, the pod's, the Secret.
func (r *classReader) identity(s *settings, secret string) {
	switch {
	case r.isTrue("usePodIdentity"):
		r.problem("usePodIdentity: AAD Pod Identity is archived; use a workload identity (clientID) and migrate again")
	case r.isTrue("useAzureTokenProxy"):
		r.problem("useAzureTokenProxy: this driver has no AKS identity bindings; use a federated credential (clientID) and migrate again")
	case r.isTrue("useVMManagedIdentity"):
		s.set(volume.AttributeIdentity, string(volume.Managed))
		if id := r.text("userAssignedIdentityID"); id != "" {
			s.set(volume.AttributeClientID, id)
		}
		nodeIdentityNote(r.plan, r.at, volume.Managed)
	case r.text("clientID") != "":
		s.set(volume.AttributeIdentity, string(volume.Workload))
		s.set(volume.AttributeClientID, r.text("clientID"))
	case secret != "":
		s.set(volume.AttributeIdentity, string(volume.ServicePrincipal))
	default:
		r.problem("it names no identity: neither clientID nor useVMManagedIdentity, and the volume has no nodePublishSecretRef")
	}
}

// synced reports the Kubernetes Secrets that the other driver writes. A pod that reads one of them would not start any
// more.
func (r *classReader) synced() {
	objects, _ := items(get(r.class.node, "spec", "secretObjects"))
	for _, o := range objects {
		name := text1(get(o, "secretName"))
		if at := usesSecret(r.plan.spec, name); at != nil {
			r.plan.problem(at, "the pod reads the Secret %s, which the %s makes (secretObjects) and this driver does not; let the container read the file instead, then migrate again",
				quote(printable(name)), storeKind)
			continue
		}
		r.lost("secretObjects: this driver writes files only, the Secret %s is not kept any more", quote(printable(name)))
	}
}

// usesSecret finds a reference to a Secret in a pod.
func usesSecret(node *yaml.Node, name string) *yaml.Node {
	for _, field := range []string{"secretKeyRef", "secretRef"} {
		if ref := get(node, field); ref != nil && text1(get(ref, "name")) == name {
			return ref
		}
	}
	if secret := get(node, "secret"); secret != nil && text1(get(secret, "secretName")) == name {
		return secret
	}
	for _, child := range node.Content {
		if found := usesSecret(child, name); found != nil {
			return found
		}
	}
	return nil
}

// storeObject is one entry of the class's objects.
type storeObject struct {
	name, kind, version, alias, format, encoding, history, mode string
}

// read reads the list of the class, YAML in a string: a mapping with the list array, whose entries are YAML in strings.
func (r *classReader) read() (all []storeObject) {
	var document yaml.Node
	text := r.text("objects")
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || len(document.Content) == 0 {
		r.problem("objects is not the YAML that the provider reads")
		return nil
	}
	entries, _ := items(get(document.Content[0], "array"))
	for i, entry := range entries {
		var inner yaml.Node
		if entry.Kind == yaml.ScalarNode {
			if err := yaml.Unmarshal([]byte(entry.Value), &inner); err != nil || len(inner.Content) == 0 {
				r.problem("objects: entry %d is not YAML", i+1)
				continue
			}
			entry = inner.Content[0]
		}
		field := func(name string) string { return strings.TrimSpace(text1(get(entry, name))) }
		o := storeObject{
			name: field("objectName"), kind: strings.ToLower(field("objectType")), version: field("objectVersion"),
			alias: field("objectAlias"), format: strings.ToLower(field("objectFormat")),
			encoding: strings.ToLower(field("objectEncoding")), history: field("objectVersionHistory"), mode: field("filePermission"),
		}
		if strings.EqualFold(o.version, "latest") {
			o.version = ""
		}
		if o.alias == "" {
			o.alias = o.name
		}
		all = append(all, o)
	}
	return all
}

// objects returns the list in this driver's form.
func (r *classReader) objects(s *settings) {
	all := r.read()
	if r.plan.blocked {
		return
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	var plain, public []string
	taken := map[string]bool{}
	for _, o := range all {
		taken[o.alias] = true
	}
	for _, o := range all {
		node, doubt := r.object(o, all, taken)
		if node == nil {
			continue
		}
		list.Content = append(list.Content, node)
		switch {
		case doubt:
			plain = append(plain, printable(o.name))
		case o.kind == "cert":
			public = append(public, printable(o.name))
		}
	}
	if len(plain) > 0 {
		r.plan.note(r.at, "taken for plain secrets: %s; where one is the secret behind a certificate, write {certificate: NAME, pem: FILE} in place of {secret: NAME, path: FILE}",
			strings.Join(plain, ", "))
	}
	if len(public) > 0 {
		r.plan.note(r.at, "the public certificates of %s are read through their secrets: the identity needs the right secrets/get", strings.Join(public, ", "))
	}
	if len(list.Content) == 0 {
		s.set(volume.AttributeObjects, "")
		return
	}
	s.set(volume.AttributeObjects, strings.Join(inBlock(list), "\n")+"\n")
}

// object returns the entry for one object. doubt is true if a secret may be the one of a certificate.
func (r *classReader) object(o storeObject, all []storeObject, taken map[string]bool) (node *yaml.Node, doubt bool) {
	if o.history != "" && o.history != "0" && o.history != "1" {
		r.lost("object %s: objectVersionHistory has no counterpart, only the newest version is written, as %s", printable(o.name), quote(printable(o.alias+"/0")))
		o.alias += "/0"
	}
	node = mapping()
	switch o.kind {
	case "secret":
		switch {
		case o.format == "pfx", o.encoding != "" && o.encoding != "utf-8":
			put(node, "secret", o.name) // the value is the base64 text, or decoded the PFX itself
		case o.format == "pem" || r.isCertificate(o, all):
			put(node, "certificate", o.name)
		default:
			put(node, "secret", o.name)
			doubt = true
		}
	case "cert":
		put(node, "certificate", o.name)
	case "key":
		put(node, "key", o.name)
	default:
		r.problem("object %s: objectType %s is none of secret, key and cert", printable(o.name), quote(printable(o.kind)))
		return nil, false
	}
	if o.version != "" {
		put(node, "version", o.version)
	}
	r.files(node, o, taken)
	if node.Content[0].Value == "secret" && o.encoding != "" && o.encoding != "utf-8" {
		put(node, "encoding", o.encoding)
	}
	if o.mode != "" {
		put(node, "mode", o.mode)
		node.Content[len(node.Content)-1].Style = yaml.DoubleQuotedStyle
	}
	return node, doubt
}

// files sets the files of an object. A certificate with its key is one file at its alias. The provider can be configured to
// write .crt and .key beside it for every volume (AKS does), so they are written as well.
func (r *classReader) files(node *yaml.Node, o storeObject, taken map[string]bool) {
	switch {
	case o.kind == "cert":
		put(node, "cert", o.alias)
	case node.Content[0].Value == "certificate":
		put(node, "pem", o.alias)
		for _, split := range []struct{ field, suffix string }{{"chain", ".crt"}, {"key", ".key"}} {
			if path := o.alias + split.suffix; !taken[path] {
				put(node, split.field, path)
			}
		}
	case o.kind == "key" || o.alias != o.name: // the default of a key has another suffix
		put(node, "path", o.alias)
	}
}

// isCertificate reports whether another entry shows that a certificate of this name exists.
func (r *classReader) isCertificate(o storeObject, all []storeObject) bool {
	if slices.ContainsFunc(all, func(other storeObject) bool { return other.name == o.name && other.kind == "cert" }) {
		return true
	}
	objects, _ := items(get(r.class.node, "spec", "secretObjects"))
	for _, synced := range objects {
		data, _ := items(get(synced, "data"))
		for _, d := range data {
			if name := text1(get(d, "objectName")); text1(get(synced, "type")) == "kubernetes.io/tls" && (name == o.alias || name == o.name) {
				return true
			}
		}
	}
	return false
}
