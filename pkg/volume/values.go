package volume

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// This file reads the objects that are more than one value in one file: the fields of a JSON value, and files of values.

// entryFields are the fields of an entry of from: of one secret, and of a selection. The first says which it is.
var entryFields = [][]string{
	{"secret", "name", "version", "vault", "field", "encoding", "optional"},
	{"secrets", "vault", "encoding"},
}

// values returns the files of a secret: its value, one field of it, or several fields.
func (m *mapping) values(name string) (outputs []Output) {
	if m.fields["fields"] == nil {
		return []Output{m.value(m.path("path", name))}
	}
	for _, other := range []string{"field", "path"} {
		if m.fields[other] != nil {
			m.problem(other, "does not go with fields, which names all files of the secret")
		}
	}
	f := m.parser.yamlMapping(m.source+".fields", m.fields["fields"], MaxEntries)
	if f == nil || !f.mayHold("", len(f.names)) {
		return nil
	}
	if len(f.names) == 0 {
		f.problem("", "is empty, write {path: pointer}")
	}
	for _, path := range f.names {
		if problem := pathProblem(path); problem != "" {
			f.problem(path, "the path %s %s", quote(path), problem)
		}
		outputs = append(outputs, Output{Part: PartField, Path: path, Pointer: f.pointer(path)})
	}
	return outputs
}

// value returns the output for the value of a secret, or for the field of it that is named.
func (m *mapping) value(path string) Output {
	if m.fields["field"] == nil {
		return Output{Part: PartValue, Path: path}
	}
	return Output{Part: PartField, Path: path, Pointer: m.pointer("field")}
}

// The limits of a pointer. A JSON value is read once for each of its levels that a pointer enters.
const (
	maxPointer      = 512 // bytes
	maxPointerDepth = 32
)

// pointer reads a JSON Pointer (RFC 6901).
func (m *mapping) pointer(field string) string {
	pointer, ok := m.text(field)
	problem := ""
	rest := strings.NewReplacer("~0", "", "~1", "").Replace(pointer)
	switch {
	case !ok || pointer == "":
	case len(pointer) > maxPointer:
		problem = "is longer than 512 bytes"
	case strings.HasPrefix(pointer, "#"):
		problem = "is the form for a URL, leave the # out"
	case pointer[0] != '/':
		problem = `does not begin with "/", write a JSON Pointer such as "/db/password", or "" for the whole value`
	case strings.Count(pointer, "/") > maxPointerDepth:
		problem = "has more than 32 components"
	case strings.Contains(rest, "~"):
		problem = `has a "~" that is neither ~0 (for "~") nor ~1 (for "/")`
	}
	if problem != "" {
		m.problem(field, "the pointer %s %s", quote(pointer), problem)
	}
	return pointer
}

// mayHold counts entries of files of values, and fields, whose number in all objects is bounded.
func (m *mapping) mayHold(field string, entries int) bool {
	m.parser.values += entries
	if m.parser.values > MaxEntries {
		m.problem(field, "has too many entries, at most %d in from and fields of all objects", MaxEntries)
		return false
	}
	return true
}

// valueFile reads a file of values. Its entries are the objects.
func (m *mapping) valueFile(format Format) (objects []Object) {
	file := &ValueFile{Source: m.source, Format: format, Path: m.path(string(format), ""), Mode: m.mode()}
	from := m.fields["from"]
	switch {
	case from == nil:
		m.problem("from", `is missing, list the values of the file: [{name: NAME, secret: "..."}]`)
	case from.Kind != yaml.SequenceNode || from.ShortTag() != "!!seq":
		m.problem("from", "must be a YAML list, not %s", yamlType(from))
	case len(from.Content) == 0:
		m.problem("from", "is empty, list the values of the file")
	case m.mayHold("from", len(from.Content)):
		return m.entries(file, from.Content)
	}
	return nil
}

// entries reads the entries of a file.
func (m *mapping) entries(file *ValueFile, list []*yaml.Node) (objects []Object) {
	vault := "" // of the entries that name none
	if m.fields["vault"] != nil {
		vault = m.vault()
	}
	named := make(map[string]string, len(list)) // sources of entries, by name
	for i, node := range list {
		e := m.parser.yamlMapping(at(m.source+".from", i), node, maxFields)
		if e == nil {
			continue
		}
		before := m.parser.found
		o := e.entry(file, vault)
		if other := named[o.Entry]; other != "" {
			e.problem("name", "%s is the name of %s already", quote(o.Entry), other)
		}
		if o.Entry != "" { // a selection has none yet
			named[o.Entry] = e.source
		}
		if m.parser.found == before {
			objects = append(objects, o)
		}
	}
	return objects
}

// entry reads one entry of a file: a secret, or a selection.
func (m *mapping) entry(file *ValueFile, vault string) Object {
	o := Object{Kind: KindSecret, Source: m.source, In: file, Vault: vault}
	fields := entryFields[0]
	selects := m.fields["secrets"] != nil
	switch {
	case selects && m.fields["secret"] != nil:
		m.problem("", "says both secret and secrets")
		return o
	case selects:
		o.Kind, fields = KindSelection, entryFields[1]
	case m.fields["secret"] == nil:
		m.checkEntry(slices.Concat(entryFields...), "")
		m.problem("", "says none of secret and secrets")
		return o
	}
	m.checkEntry(fields, fields[0])
	if m.fields["vault"] != nil || vault == "" {
		o.Vault = m.vault()
	}
	if selects {
		m.entrySelection(&o)
		return o
	}
	m.name(&o, "secret")
	o.Encoding = choice(m, "encoding", UTF8, Base64, Hex)
	output := m.value(file.Path)
	output.Mode = file.Mode
	o.Outputs = []Output{output}
	o.Entry = m.entryName(file.Format, o)
	return o
}

// checkEntry reports the fields that an entry cannot have.
func (m *mapping) checkEntry(fields []string, kind string) {
	for _, name := range m.names {
		switch {
		case slices.Contains(fields, name):
		case name == "mode" || name == "path":
			m.problem(name, "belongs to the file, not to an entry of from")
		case kind == "secrets" && name == "name":
			m.problem(name, "does not go with secrets, whose names are made from those in the vault")
		case kind != "" && slices.Contains(slices.Concat(entryFields...), name):
			m.problem(name, "does not go with %s", kind)
		case slices.Contains(allFields(), name):
			m.problem(name, "does not go with from, whose entries are secrets")
		default:
			m.problem(name, "unknown field%s", didYouMean(m.parser.nearest(name, fields)))
		}
	}
}

// entryName reads the name of an entry, which by default is made from that of its secret.
func (m *mapping) entryName(format Format, o Object) string {
	name, given := m.text("name")
	switch {
	case !given && m.fields["name"] != nil: // reported
		return ""
	case !given && m.fields["field"] != nil:
		m.problem("name", "is missing, a field needs one")
		return ""
	case !given && !ValidName(o.Name): // reported
		return ""
	case !given:
		name = format.NameOf(o.Name)
	}
	if problem := format.NameProblem(name); problem != "" {
		m.problem("name", "%s", problem)
	}
	return name
}

// entrySelection makes the selected secrets entries of the file.
func (m *mapping) entrySelection(o *Object) {
	selection := m.selection(*o, o.In.Mode)
	each, file := selection.Each, o.In
	selection.Each = func(name string) Object {
		one := each(name)
		one.In, one.Entry = file, file.Format.NameOf(name)
		one.Outputs[0].Path = file.Path
		return one
	}
	o.Selection = selection
}
