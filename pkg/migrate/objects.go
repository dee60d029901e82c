package migrate

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// storeObject is one entry of the class's objects.
type storeObject struct {
	name, kind, version, alias, format, encoding, history, mode string

	misspelt string // the end of a message: a field that was perhaps meant as the name
}

var knownFields = []string{
	"objectName", "objectType", "objectVersion", "objectAlias", "objectFormat", "objectEncoding", "objectVersionHistory", "filePermission",
}

// badObjects is the problem of a list that the provider refuses.
const badObjects = "objects is not what the provider reads: a mapping with the key array, and in it one text for each object"

// read reads the list of the class, YAML in a text: a mapping with the list array, whose entries are YAML in texts. Entries that are
// mappings themselves are read as well, since nothing else can be meant.
func (r *classReader) read() (all []storeObject) {
	text := r.parameters.get(volume.AttributeObjects)
	root, err := parseText(text)
	switch {
	case text == "":
		r.problem(volume.AttributeObjects, "objects is missing or empty%s", r.misspelt(volume.AttributeObjects))
		return nil
	case isPlaceholder(text) || err != nil && placeholder.MatchString(text):
		r.problem(volume.AttributeObjects, "objects is made by a template; "+buildOrRender)
		return nil
	case err != nil || doubled(root) != nil:
		r.problem(volume.AttributeObjects, badObjects)
		return nil
	}
	list := get(root, "array")
	entries, _ := items(list)
	if root.Kind != yaml.MappingNode || list == nil || len(entries) == 0 || len(root.Content) != 2 {
		r.problem(volume.AttributeObjects, badObjects)
		return nil
	}
	for i, entry := range entries {
		if entry.Kind == yaml.ScalarNode {
			inner, err := parseText(entry.Value)
			if err != nil {
				r.problem(volume.AttributeObjects, "objects: entry %d is not YAML", i+1)
				return nil
			}
			entry = inner
		}
		if entry.Kind != yaml.MappingNode || doubled(entry) != nil {
			r.problem(volume.AttributeObjects, "objects: entry %d is not a mapping, or has a key twice", i+1)
			return nil
		}
		if o, ok := r.readObject(i+1, entry); ok && !slices.Contains(all, o) { // the same object twice is one file
			all = append(all, o)
		}
	}
	return all
}

var errOneDocument = errors.New("is not one document")

// parseText reads one YAML document in a text, with its placeholders.
func parseText(text string) (*yaml.Node, error) {
	s, err := parse(File{Name: volume.AttributeObjects, Data: []byte(text)})
	switch {
	case err != nil:
		return nil, err
	case len(s.documents) != 1:
		return nil, errOneDocument
	}
	return resolve(s.documents[0].Content[0]), nil
}

func (r *classReader) readObject(number int, entry *yaml.Node) (o storeObject, ok bool) {
	entries := newFields()
	entries.add(r.class.object, entry, 0)
	for _, f := range entries.odd {
		r.problem(volume.AttributeObjects, "objects: %s of entry %d is not a text", printable(f.key.Value), number)
		return o, false
	}
	if history := entries.entries["objectVersionHistory"].value; history != nil && history.ShortTag() != "!!int" && history.ShortTag() != "!!null" {
		r.problem(volume.AttributeObjects, "objects: objectVersionHistory of entry %d is not a number", number)
		return o, false
	}
	o = storeObject{
		name: entries.get("objectName"), kind: entries.get("objectType"), version: entries.get("objectVersion"),
		alias: entries.get("objectAlias"), format: strings.ToLower(entries.get("objectFormat")),
		encoding: strings.ToLower(entries.get("objectEncoding")), history: entries.get("objectVersionHistory"), mode: entries.get("filePermission"),
	}
	for _, name := range entries.unread() {
		r.class.lost(r.plan, r.parameters.entries[volume.AttributeObjects].key, "objects: the field %s of entry %d (%s) is not one of the provider, and had no effect%s",
			printable(name), number, printable(o.name), didYouMean(name, knownFields))
		if volume.Nearest(name, knownFields) == "objectName" {
			o.misspelt = "; " + printable(name) + " is not read, did you mean objectName?"
		}
	}
	if strings.EqualFold(o.version, "latest") {
		o.version = ""
	}
	if o.alias == "" {
		o.alias = o.name
	}
	return o, r.accepts(number, o)
}

// accepts reports whether the provider takes the object.
func (r *classReader) accepts(number int, o storeObject) bool {
	wrong := func(format string, args ...any) bool {
		r.problem(volume.AttributeObjects, "objects: entry "+strconv.Itoa(number)+": "+format, args...)
		return false
	}
	history, err := strconv.Atoi(cmp.Or(o.history, "0"))
	switch {
	case o.name == "":
		return wrong("objectName is missing%s", o.misspelt)
	case !slices.Contains([]string{"secret", "key", "cert"}, o.kind):
		return wrong("%s: objectType %s is none of secret, key and cert", printable(o.name), quote(printable(o.kind)))
	case !slices.Contains([]string{"", "pem", "pfx"}, o.format):
		return wrong("%s: objectFormat %s is neither pem nor pfx", printable(o.name), quote(printable(o.format)))
	case o.format == "pfx" && o.kind != "secret":
		return wrong("%s: objectFormat pfx is for secrets only", printable(o.name))
	case !slices.Contains([]string{"", "utf-8", "base64", "hex"}, o.encoding):
		return wrong("%s: objectEncoding %s is none of utf-8, base64 and hex", printable(o.name), quote(printable(o.encoding)))
	case o.encoding != "" && o.kind != "secret":
		return wrong("%s: objectEncoding is for secrets only", printable(o.name))
	case err != nil || history < 0:
		return wrong("%s: objectVersionHistory %s is not a number", printable(o.name), quote(printable(o.history)))
	}
	return true
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
	s.set(volume.AttributeObjects, strings.Join(inBlock(list), "\n")+"\n")
}

// object returns the entry for one object. doubt is true if a secret may be the one of a certificate.
func (r *classReader) object(o storeObject, all []storeObject, taken map[string]bool) (node *yaml.Node, doubt bool) {
	if history, _ := strconv.Atoi(o.history); history > 1 {
		r.class.lost(r.plan, r.parameters.entries[volume.AttributeObjects].key, "object %s: objectVersionHistory has no counterpart, only the newest version is written, as %s", printable(o.name), quote(printable(o.alias+"/0")))
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
