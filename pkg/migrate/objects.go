package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// badObjects is the problem of a list in which the provider finds no objects.
const badObjects = "objects is not what the provider reads: a mapping with the key array, and in it one text for each object"

// read reads the list of the class with its placeholders. Entries that are mappings and not texts are read as well, since nothing else
// can be meant.
func (r *classReader) read() (all []providerclass.Object) {
	text := r.parameters.get(providerclass.Objects)
	hidden, placeholders := hide([]byte(text))
	list, problem := providerclass.Decode(string(hidden))
	switch {
	case text == "":
		r.problem(providerclass.Objects, "objects is missing or empty%s", r.misspelt(providerclass.Objects))
		return nil
	case isPlaceholder(text) || problem != "" && len(placeholders) > 0:
		r.problem(providerclass.Objects, "objects is made by a template; "+buildOrRender)
		return nil
	case problem != "" || len(list.Entries) == 0 || len(list.Unknown) > 0:
		r.problem(providerclass.Objects, badObjects)
		return nil
	}
	shown := func(text string) string { return strings.TrimSpace(unquoted(show(text, placeholders))) }
	for i, entry := range list.Entries {
		o := entry.Normal().Map(shown) // a path within a placeholder stays as it is
		entry.Object = entry.Map(shown)
		for j, name := range entry.Unknown {
			entry.Unknown[j] = show(name, placeholders)
		}
		if r.accepts(i+1, entry) && !slices.Contains(all, o) { // the same object twice is one file
			all = append(all, o)
		}
	}
	return all
}

// accepts reports whether the provider takes an entry.
func (r *classReader) accepts(number int, e providerclass.Entry) bool {
	switch p := e.Problem; {
	case p != nil && p.Field != "":
		r.problem(providerclass.Objects, "objects: %s of entry %d %s", p.Field, number, p.Text)
		return false
	case p != nil:
		r.problem(providerclass.Objects, "objects: entry %d %s", number, p.Text)
		return false
	}
	for _, name := range e.Unknown {
		r.class.lost(r.plan, r.parameters.entries[providerclass.Objects].key, "objects: the field %s of entry %d (%s) is not one of the provider, and had no effect%s",
			printable(name), number, printable(e.Name), didYouMean(name, providerclass.ObjectFields()))
	}
	problems := e.Problems()
	for _, p := range problems {
		name, hint := printable(e.Name)+": ", ""
		if e.Name == "" {
			name, hint = "", misspelt(p.Field, e.Unknown, providerclass.ObjectFields())
		}
		r.problem(providerclass.Objects, "objects: entry %d: %s%s %s%s", number, name, p.Field, p.Text, hint)
	}
	return len(problems) == 0
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
		taken[o.Alias] = true
	}
	for _, o := range all {
		node, doubt := r.object(o, all, taken)
		list.Content = append(list.Content, node)
		r.found, r.list = append(r.found, o), append(r.list, node)
		switch {
		case doubt:
			plain = append(plain, printable(o.Name))
		case o.Type == providerclass.TypeCert:
			public = append(public, printable(o.Name))
		}
	}
	if len(plain) > 0 {
		r.plan.note(r.at, "taken for plain secrets: %s; where one is the secret behind a certificate, write {certificate: NAME, pem: FILE} in place of {secret: NAME, path: FILE}",
			strings.Join(plain, ", "))
	}
	if len(public) > 0 {
		r.plan.note(r.at, "the public certificates of %s are read through their secrets: the identity needs the right secrets/get", strings.Join(public, ", "))
	}
	s.set(volume.AttributeObjects, strings.Join(inBlock(list), "\n")+"\n")
}

// object returns the entry for one object. doubt is true if a secret may be the one of a certificate.
func (r *classReader) object(o providerclass.Object, all []providerclass.Object, taken map[string]bool) (node *yaml.Node, doubt bool) {
	if o.History > 1 {
		r.class.lost(r.plan, r.parameters.entries[providerclass.Objects].key, "object %s: objectVersionHistory has no counterpart, only the newest version is written, as %s", printable(o.Name), quote(printable(o.Alias+"/0")))
		o.Alias += "/0"
	}
	node = mapping()
	switch o.Type {
	case providerclass.TypeSecret:
		switch {
		case o.Format == providerclass.FormatPFX, o.Encoding != "":
			put(node, "secret", o.Name) // the value is the base64 text, or decoded the PFX itself
		case o.Format == providerclass.FormatPEM || r.isCertificate(o, all):
			put(node, "certificate", o.Name)
		default:
			put(node, "secret", o.Name)
			doubt = true
		}
	case providerclass.TypeCert:
		put(node, "certificate", o.Name)
	case providerclass.TypeKey:
		put(node, "key", o.Name)
	}
	if o.Version != "" {
		put(node, "version", o.Version)
	}
	r.files(node, o, taken)
	if node.Content[0].Value == "secret" && o.Encoding != "" {
		put(node, "encoding", o.Encoding)
	}
	if o.Permission != "" {
		put(node, "mode", o.Permission)
		node.Content[len(node.Content)-1].Style = yaml.DoubleQuotedStyle
	}
	return node, doubt
}

// files sets the files of an object. A certificate with its key is one file at its alias. The provider can be configured to
// write .crt and .key beside it for every volume (AKS does), so they are written as well.
func (r *classReader) files(node *yaml.Node, o providerclass.Object, taken map[string]bool) {
	switch {
	case o.Type == providerclass.TypeCert:
		put(node, "cert", o.Alias)
	case node.Content[0].Value == "certificate":
		put(node, "pem", o.Alias)
		for _, split := range []struct{ field, suffix string }{{"chain", ".crt"}, {"key", ".key"}} {
			if path := o.Alias + split.suffix; !taken[path] {
				put(node, split.field, path)
			}
		}
	case o.Type == providerclass.TypeKey || o.Alias != o.Name: // the default of a key has another suffix
		put(node, "path", o.Alias)
	}
}

// isCertificate reports whether another entry shows that a certificate of this name exists.
func (r *classReader) isCertificate(o providerclass.Object, all []providerclass.Object) bool {
	if slices.ContainsFunc(all, func(other providerclass.Object) bool {
		return other.Name == o.Name && other.Type == providerclass.TypeCert
	}) {
		return true
	}
	objects, _ := items(get(r.class.node, "spec", "secretObjects"))
	for _, synced := range objects {
		data, _ := items(get(synced, "data"))
		for _, d := range data {
			if name := text1(get(d, "objectName")); text1(get(synced, "type")) == "kubernetes.io/tls" && (name == o.Alias || name == o.Name) {
				return true
			}
		}
	}
	return false
}
