package volume

import (
	"io/fs"
	"slices"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// objectKinds are the kinds of structured objects and the fields of each. The first field names the object.
var objectKinds = []struct {
	kind   Kind
	fields []string
}{
	{KindSecret, []string{"secret", "version", "vault", "optional", "path", "encoding", "mode", "field", "fields"}},
	{KindCertificate, []string{
		"certificate", "version", "vault", "optional", "mode", "keyFormat", "requireChain", "chain", "key", "cert", "ca", "pem", "pfx",
		"pfxPassword", "pfxProfile", "source",
	}},
	{KindSelection, []string{"secrets", "vault", "path", "encoding", "mode"}},
	{KindKey, []string{"key", "version", "vault", "optional", "path", "mode"}},
	{kindManifest, []string{"manifest", "tags", "mode"}},
	{Kind(FormatEnv), []string{"env", "from", "vault", "mode"}},
	{Kind(FormatJSON), []string{"json", "from", "vault", "mode"}},
	{Kind(FormatProperties), []string{"properties", "from", "vault", "mode"}},
}

// structured appends the attribute objects.
func (p *parser) structured(objects []Object) []Object {
	text := p.attributes[AttributeObjects]
	if text == "" {
		return objects
	}
	if last := p.last.Load(); last != nil && last.text == text && last.vault == p.vault && last.order == p.order {
		p.manifests = last.manifests
		return append(objects, last.objects...)
	}
	list := p.yamlList(AttributeObjects, text)
	first := len(objects)
	objects = slices.Grow(objects, len(list))
	for i, node := range list {
		before := p.found
		read := p.object(at(AttributeObjects, i), node)
		if p.found == before {
			objects = append(objects, read...)
		}
	}
	if p.found == 0 && p.vaultUser == "" {
		p.last.Store(&parsedList{text, p.vault, p.order, slices.Clone(objects[first:]), p.manifests})
	}
	return objects
}

// object reads one entry: an object, or those of a file of values. The result is valid only if no problem was reported.
func (p *parser) object(source string, node *yaml.Node) []Object {
	m := p.yamlMapping(source, node, maxFields)
	if m == nil {
		return nil
	}
	kind, fields := m.kind()
	if kind == "" {
		return nil
	}
	m.checkFields(kind, fields)
	if format := Format(kind); format.valid() {
		return m.valueFile(format)
	}
	o := Object{Kind: kind, Source: source}
	switch kind {
	case KindSecret:
		m.name(&o, "secret")
		o.Encoding = choice(m, "encoding", UTF8, Base64, Hex)
		o.Outputs = m.values(o.Name)
	case KindKey:
		m.name(&o, "key")
		o.Outputs = []Output{{Part: PartPublicKey, Path: m.path("path", o.Name+".pem")}}
	case KindCertificate:
		m.name(&o, "certificate")
		m.certificate(&o, p.order)
	case kindManifest:
		m.manifest()
		return nil
	}
	mode := m.mode()
	for i := range o.Outputs {
		o.Outputs[i].Mode = mode
	}
	o.Vault = m.vault()
	if kind == KindCertificate {
		m.pfxPassword(&o)
	}
	if kind == KindSelection {
		o.Selection = m.selection(o, mode)
	}
	return []Object{o}
}

// vault reads the field vault, or else the attribute.
func (m *mapping) vault() string {
	if m.fields["vault"] == nil {
		return m.parser.defaultVault(m.source)
	}
	return vault(m, "vault", m.parser.defaults.VaultSuffix)
}

// kind returns the kind of an object and the fields that it can have, or nothing after a problem.
func (m *mapping) kind() (kind Kind, fields []string) {
	for _, k := range objectKinds {
		name := k.fields[0]
		if m.fields[name] == nil || name == "key" && kind == KindCertificate { // the private key of the certificate
			continue
		}
		if kind != "" {
			m.problem("", "says both %s and %s", fields[0], name)
			return "", nil
		}
		kind, fields = k.kind, k.fields
	}
	if kind == "" {
		m.unknown(allFields())
		m.problem("", "says none of secret, certificate, secrets, key, env, json, properties and manifest")
	}
	return kind, fields
}

// checkFields reports the fields that an object of the kind cannot have.
func (m *mapping) checkFields(kind Kind, fields []string) {
	for _, name := range m.names {
		switch {
		case slices.Contains(fields, name):
		case kind == KindCertificate && name == "path":
			m.problem(name, "does not go with certificate, name its files by chain, key, cert, ca, pem and pfx")
		case slices.Contains(allFields(), name):
			m.problem(name, "does not go with %s", fields[0])
		default:
			m.problem(name, "unknown field%s", didYouMean(m.parser.nearest(name, fields)))
		}
	}
}

// allFields returns the fields of all kinds.
func allFields() (fields []string) {
	for _, k := range objectKinds {
		fields = append(fields, k.fields...)
	}
	return fields
}

// name reads what an object of one name has: the name, in the field of its kind, the version, and optional.
func (m *mapping) name(o *Object, field string) {
	text, ok := m.text(field)
	if problem := nameProblem(text); ok && problem != "" {
		m.problem(field, "%s", problem)
	}
	o.Name = text
	text, ok = m.text("version")
	version, problem := ParseVersion(text)
	switch {
	case ok && text == "":
		m.problem("version", "is empty, leave it out for the latest")
	case problem != "":
		m.problem("version", "%s", problem)
	}
	o.Version = version
	o.Optional = m.boolean("optional")
}

func (m *mapping) path(field, fallback string) string {
	text, ok := m.text(field)
	if !ok {
		return fallback
	}
	if problem := pathProblem(text); problem != "" {
		m.problem(field, "the path %s %s", quote(text), problem)
	}
	return text
}

// mode reads three octal digits, with or without a leading zero. It must be a string: a tool that reads 0440 as a number
// and writes YAML again leaves 288, and 0400 becomes 256, which are other modes. 0 is refused because it stands for the
// default of the volume, and nobody could read the file.
func (m *mapping) mode() fs.FileMode {
	if node := m.fields["mode"]; node != nil && node.ShortTag() == "!!int" {
		m.problem("mode", `%s is a number to YAML, quote it: "0440"`, quote(node.Value))
		return 0
	}
	text, ok := m.text("mode")
	if !ok {
		return 0
	}
	bits, err := strconv.ParseUint(text, 8, 16)
	if err != nil || len(text) < 3 || len(text) > 4 || bits == 0 || bits > 0o777 {
		m.problem("mode", `%s must be permission bits in octal such as "0440"`, quote(text))
	}
	return fs.FileMode(bits)
}

// selection reads the fields encoding, path and secrets.
func (m *mapping) selection(o Object, mode fs.FileMode) *Selection {
	s := &Selection{}
	encoding := choice(m, "encoding", UTF8, Base64, Hex)
	folder := ""
	if path := m.path("path", ""); path != "" {
		folder = path + "/"
	}
	if f := m.parser.yamlMapping(m.source+".secrets", m.fields["secrets"], maxFields); f != nil {
		f.unknown([]string{"prefix", "tags"})
		prefix, ok := f.text("prefix")
		if ok && !ValidName(prefix) {
			f.problem("prefix", "%s is not 1 to 127 letters, digits and hyphens", quote(prefix))
		}
		s.Prefix = prefix
		s.Tags = f.tags()
	}
	s.Each = func(name string) Object {
		return Object{
			Kind:     KindSecret,
			Source:   o.Source,
			Vault:    o.Vault,
			Name:     name,
			Optional: true,
			Encoding: encoding,
			Outputs:  []Output{{Part: PartValue, Path: folder + name, Mode: mode}},
		}
	}
	return s
}

// The limits of Key Vault: the tags of an object, and the characters of a tag's name and value.
const (
	maxTags = 15
	maxTag  = 256
)

func (m *mapping) tags() map[string]string {
	node := m.fields["tags"]
	if node == nil {
		return nil
	}
	t := m.parser.yamlMapping(m.source+".tags", node, maxFields)
	if t == nil {
		return nil
	}
	if len(t.names) > maxTags {
		t.problem("", "has more than %d tags, as many as an object can have", maxTags)
		return nil
	}
	tags := make(map[string]string)
	for _, name := range t.names {
		value, ok := t.text(name)
		if ok && (name == "" || utf8.RuneCountInString(name) > maxTag || utf8.RuneCountInString(value) > maxTag) {
			t.problem(name, "is not a tag, whose name has 1 to %d characters and its value up to %d", maxTag, maxTag)
		}
		tags[name] = value
	}
	return tags
}
