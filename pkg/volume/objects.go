package volume

import (
	"io/fs"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// The fields of the structured objects: the first says the kind and names the object.
const (
	fieldSecret      = "secret"
	fieldCertificate = "certificate"
	fieldKey         = "key" // an object of its own, or the private key of a certificate
	fieldSecrets     = "secrets"

	fieldVersion   = "version"
	fieldVault     = "vault"
	fieldOptional  = "optional"
	fieldPath      = "path"
	fieldEncoding  = "encoding"
	fieldMode      = "mode"
	fieldKeyFormat = "keyFormat"
	fieldChain     = "chain"
	fieldCert      = "cert"
	fieldCA        = "ca"
	fieldPEM       = "pem"
	fieldPFX       = "pfx"

	fieldPrefix = "prefix"
	fieldTags   = "tags"
)

// objectFields is which fields an object of each kind may have.
var objectFields = map[Kind][]string{
	KindSecret: {fieldSecret, fieldVersion, fieldVault, fieldOptional, fieldPath, fieldEncoding, fieldMode},
	KindCertificate: {
		fieldCertificate, fieldVersion, fieldVault, fieldOptional, fieldMode, fieldKeyFormat,
		fieldChain, fieldKey, fieldCert, fieldCA, fieldPEM, fieldPFX,
	},
	KindKey:       {fieldKey, fieldVersion, fieldVault, fieldOptional, fieldPath, fieldMode},
	KindSelection: {fieldSecrets, fieldVault, fieldPath, fieldEncoding, fieldMode},
}

// certificateOutputs is the files of a certificate, in the order in which they are laid down.
var certificateOutputs = []struct {
	field string
	part  Part
}{
	{fieldChain, PartChain}, {fieldKey, PartKey}, {fieldCert, PartCert}, {fieldCA, PartCA}, {fieldPEM, PartPEM},
	{fieldPFX, PartPFX},
}

// structured reads the attribute objects.
func (p *parser) structured(vault *defaultVault, order ChainOrder) (objects []Object) {
	text, given := p.attributes[AttributeObjects]
	if !given {
		return nil
	}
	key := listKey{text, vault.url, order}
	if objects, known := p.lists.get(key); known {
		return objects
	}
	for i, node := range p.yamlList(AttributeObjects, text) {
		before := p.found
		o := p.object(at(AttributeObjects, i), node, vault, order)
		if p.found == before {
			objects = append(objects, o)
		}
	}
	if p.found == 0 && vault.needed == "" {
		p.lists.put(key, objects)
	}
	return objects
}

// object reads one entry. Whether it is valid shows in the problems.
func (p *parser) object(source string, node *yaml.Node, vault *defaultVault, order ChainOrder) Object {
	m := p.yamlMapping(source, node)
	if m == nil {
		return Object{}
	}
	kind, ok := m.kind()
	if !ok {
		return Object{}
	}
	m.only(kind)
	o := Object{Kind: kind, Source: source, Encoding: UTF8}
	switch kind {
	case KindSecret:
		m.name(&o, fieldSecret)
		o.Encoding = m.encoding()
		o.Outputs = []Output{{Part: PartValue, Path: m.path(fieldPath, o.Name)}}
	case KindKey:
		m.name(&o, fieldKey)
		o.Encoding = ""
		o.Outputs = []Output{{Part: PartPublicKey, Path: m.path(fieldPath, o.Name+".pem")}}
	case KindCertificate:
		m.name(&o, fieldCertificate)
		o.Encoding = ""
		o.ChainOrder = order
		o.KeyFormat = m.keyFormat()
		o.Outputs = m.certificate(o.Name)
	}
	mode := m.mode()
	for i := range o.Outputs {
		o.Outputs[i].Mode = mode
	}
	o.Vault = m.vault(vault)
	if kind == KindSelection {
		o.Selection = m.selection(o, m.encoding(), mode)
		o.Encoding = ""
	}
	return o
}

// kind finds out what an object is. Inside a certificate, key is a file.
func (m *mapping) kind() (kind Kind, ok bool) {
	var said []string
	for _, k := range []struct {
		field string
		kind  Kind
	}{
		{fieldSecret, KindSecret}, {fieldCertificate, KindCertificate}, {fieldSecrets, KindSelection}, {fieldKey, KindKey},
	} {
		if m.fields[k.field] == nil || k.kind == KindKey && kind == KindCertificate {
			continue
		}
		said, kind = append(said, k.field), k.kind
	}
	switch len(said) {
	case 1:
		return kind, true
	case 0:
		m.unknown(anyField())
		m.problem("", m.node, "says none of secret, certificate, key and secrets")
	default:
		m.problem("", m.node, "says both %s and %s", said[0], said[1])
	}
	return "", false
}

// only reports the fields that an object of the kind does not have.
func (m *mapping) only(kind Kind) {
	for _, key := range m.keys {
		switch {
		case slices.Contains(objectFields[kind], key):
		case kind == KindCertificate && key == fieldPath:
			m.problem(key, m.fields[key], "does not go with certificate, name its files by chain, key, cert, ca, pem and pfx")
		case slices.Contains(anyField(), key):
			m.problem(key, m.fields[key], "does not go with %s", objectFields[kind][0])
		default:
			m.problem(key, m.fields[key], "unknown field%s", didYouMean(m.parser.nearest(key, objectFields[kind])))
		}
	}
}

// anyField is every field that some object has.
func anyField() (fields []string) {
	for _, kind := range []Kind{KindSecret, KindCertificate, KindKey, KindSelection} {
		fields = append(fields, objectFields[kind]...)
	}
	return fields
}

func (m *mapping) name(o *Object, field string) {
	text, ok := m.text(field)
	if problem := nameProblem(text); ok && problem != "" {
		m.problem(field, m.fields[field], "%s", problem)
	}
	o.Name = text
	text, ok = m.text(fieldVersion)
	version, problem := parseVersion(text)
	switch {
	case ok && text == "":
		m.problem(fieldVersion, m.fields[fieldVersion], "is empty, leave it out for the latest")
	case ok && problem != "":
		m.problem(fieldVersion, m.fields[fieldVersion], "%s", problem)
	}
	o.Version = version
	o.Optional = m.boolean(fieldOptional)
}

func (m *mapping) vault(fallback *defaultVault) string {
	if m.fields[fieldVault] == nil {
		return fallback.get(m.source)
	}
	text, ok := m.text(fieldVault)
	if !ok {
		return ""
	}
	url, problem := parseVault(text, m.parser.defaults.VaultSuffix)
	if problem != "" {
		m.problem(fieldVault, m.fields[fieldVault], "%s", problem)
	}
	return url
}

// path reads a path; the fallback is that of an object without one.
func (m *mapping) path(field, fallback string) string {
	text, ok := m.text(field)
	if !ok {
		return fallback
	}
	if problem := pathProblem(text); problem != "" {
		m.problem(field, m.fields[field], "the path %s %s", quote(text), problem)
	}
	return text
}

// certificate is the files that are named, or the chain and the key if none is.
func (m *mapping) certificate(name string) (outputs []Output) {
	for _, o := range certificateOutputs {
		if m.fields[o.field] != nil {
			outputs = append(outputs, Output{Part: o.part, Path: m.path(o.field, "")})
		}
	}
	if outputs == nil {
		return []Output{{Part: PartChain, Path: name + ".crt"}, {Part: PartKey, Path: name + ".key"}}
	}
	return outputs
}

func (m *mapping) encoding() Encoding {
	text, ok := m.text(fieldEncoding)
	if !ok {
		return UTF8
	}
	encoding := Encoding(text)
	switch encoding {
	case UTF8, Base64, Hex:
	default:
		m.problem(fieldEncoding, m.fields[fieldEncoding], "%s must be utf-8, base64 or hex", quote(text))
	}
	return encoding
}

func (m *mapping) keyFormat() KeyFormat {
	text, ok := m.text(fieldKeyFormat)
	if !ok {
		return PKCS8
	}
	format := KeyFormat(text)
	switch format {
	case PKCS8, PKCS1, SEC1:
	default:
		m.problem(fieldKeyFormat, m.fields[fieldKeyFormat], "%s must be pkcs8, pkcs1 or sec1", quote(text))
	}
	return format
}

// mode reads three octal digits, with a leading zero or not. Only as a string: a tool that reads 0440 as a number and
// writes YAML again leaves 288, and 0400 becomes 256, which are other modes. 0 is refused because it stands for the
// volume's default, and nobody could read the file.
func (m *mapping) mode() fs.FileMode {
	node := m.fields[fieldMode]
	if node == nil {
		return 0
	}
	if node.ShortTag() == "!!int" {
		m.problem(fieldMode, node, `%s is a number to YAML, quote it: "0440"`, quote(node.Value))
		return 0
	}
	text, ok := m.text(fieldMode)
	if !ok {
		return 0
	}
	bits, err := strconv.ParseUint(text, 8, 16)
	if err != nil || len(text) < 3 || len(text) > 4 || bits == 0 || bits > 0o777 {
		m.problem(fieldMode, node, `%s must be permission bits in octal such as "0440"`, quote(text))
	}
	return fs.FileMode(bits)
}
