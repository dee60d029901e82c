package volume

import (
	"maps"
	"slices"
	"strings"
)

// The folders of the predecessor's layout.
const (
	folderSecrets   = "secrets"    // values
	folderCerts     = "certs"      // certificates
	folderKeys      = "keys"       // private keys
	folderCertsKeys = "certs_keys" // both, if a certificate and its key have different file names
)

// entry is one segment of the predecessor's grammar, name[:version[:certfile[:keyfile]]].
type entry struct {
	name, version, cert, key string
}

// segments splits a list at semicolons. It trims white space around a segment and drops blank segments. all is true for
// a "*" that stands alone.
func segments(list string) (entries []entry, all bool) {
	for segment := range strings.SplitSeq(list, ";") {
		segment = strings.TrimSpace(segment)
		if segment == "" {
			continue
		}
		parts := strings.SplitN(segment, ":", 5) // the predecessor ignores a fifth part and more
		e := entry{name: parts[0], cert: parts[0], key: parts[0]}
		if len(parts) > 1 {
			e.version = parts[1]
		}
		if len(parts) > 2 {
			e.cert, e.key = parts[2], parts[2]
		}
		if len(parts) > 3 {
			e.key = parts[3]
		}
		entries = append(entries, e)
		if len(entries) > MaxEntries {
			break
		}
	}
	return entries, len(entries) == 1 && entries[0] == entry{name: "*", cert: "*", key: "*"}
}

// entries reads a list and calls use once for each different valid entry. all is true for a "*" that stands alone.
func (p *parser) entries(attribute string, use func(source string, e entry)) (all bool) {
	list, all := segments(p.attributes[attribute])
	switch {
	case all:
		return true
	case len(list) > MaxEntries:
		p.problem(attribute, "has more than %d entries", MaxEntries)
		return false
	}
	seen := make(map[entry]bool, len(list))
	for i, e := range list {
		source := at(attribute, i)
		if e, ok := p.checkEntry(source, e); ok && !seen[e] {
			seen[e] = true
			use(source, e)
		}
	}
	return false
}

// checkEntry validates one segment and returns it with the canonical version.
func (p *parser) checkEntry(source string, e entry) (valid entry, ok bool) {
	before := p.found
	if e.name == "*" {
		p.problem(source, `"*" must stand alone`)
		return e, false
	}
	if !p.check(source, nameProblem(e.name)) {
		return e, false // the name may also be the file name: one problem is enough
	}
	version, problem := ParseVersion(e.version)
	p.check(source, problem)
	e.version = version
	if problem := fileNameProblem(e.cert); problem != "" {
		p.problem(source, "the certfile %s %s", quote(e.cert), problem)
	}
	if problem := fileNameProblem(e.key); problem != "" && e.key != e.cert {
		p.problem(source, "the keyfile %s %s", quote(e.key), problem)
	}
	return e, p.found == before
}

// legacySecrets reads the attribute secrets and the attributes that say how its certificates are written.
func (p *parser) legacySecrets() (objects []Object) {
	layout := legacyLayout{
		order:        p.order,
		savePFX:      p.boolean(AttributeSavePFX, false),
		downloadCA:   p.boolean(AttributeDownloadCA, true),
		downloadCAOf: p.downloadCAOf(),
	}
	all := p.entries(AttributeSecrets, func(source string, e entry) {
		objects = append(objects, layout.object(source, p.defaultVault(source), e))
	})
	if all {
		source := at(AttributeSecrets, 0)
		return []Object{layout.selection(source, p.defaultVault(source))}
	}
	return objects
}

// downloadCAOf reads the attributes downloadCACertificates.NAME, by name in lower case. A name that is not in the list
// is no problem, as with the predecessor: manifests often share settings but not lists.
func (p *parser) downloadCAOf() map[string]bool {
	values := make(map[string]bool)
	for _, key := range slices.Sorted(maps.Keys(p.attributes)) {
		name, found := strings.CutPrefix(key, AttributeDownloadCAPrefix)
		if !found || !p.check(asField(key), nameProblem(name)) {
			continue
		}
		name = lower(name)
		value := p.boolean(key, true)
		if earlier, twice := values[name]; twice && earlier != value {
			p.problem(asField(key), "is there in another spelling with another value")
		}
		values[name] = value
	}
	return values
}

// legacyCertificates reads the attribute certificates. It has no "*": the predecessor can list secrets only.
func (p *parser) legacyCertificates() (objects []Object) {
	all := p.entries(AttributeCertificates, func(source string, e entry) {
		objects = append(objects, Object{
			Kind:    KindPublicCertificate,
			Source:  source,
			Vault:   p.defaultVault(source),
			Name:    e.name,
			Version: e.version,
			Outputs: []Output{{Part: PartLeaf76, Path: folderCerts + "/" + e.cert}},
		})
	})
	if all {
		p.problem(at(AttributeCertificates, 0), `"*" stands for all secrets, in the attribute secrets only, name the certificates`)
	}
	return objects
}

// legacyLayout is how the predecessor writes a secret.
type legacyLayout struct {
	order        ChainOrder
	savePFX      bool
	downloadCA   bool
	downloadCAOf map[string]bool // by name in lower case
}

func (l legacyLayout) object(source, vault string, e entry) Object {
	return Object{
		Kind:              KindSecret,
		Source:            source,
		Vault:             vault,
		Name:              e.name,
		Version:           e.version,
		Encoding:          UTF8,
		HonourEncodingTag: true,
		Outputs:           []Output{{Part: PartValue, Path: folderSecrets + "/" + e.name}},
		Split:             l.split(e),
		NeedsCertificate:  e.cert != e.name,
		ChainOrder:        l.order,
		KeyFormat:         PKCS8,
	}
}

// split returns the files of a certificate in the predecessor's order: the key, the PFX beside it, and the chain.
func (l legacyLayout) split(e entry) []Output {
	keys, certs := folderKeys, folderCerts
	if e.cert != e.key {
		keys, certs = folderCertsKeys, folderCertsKeys
	}
	downloadCA, given := l.downloadCAOf[lower(e.name)]
	if !given {
		downloadCA = l.downloadCA
	}
	outputs := []Output{{Part: PartKey, Path: keys + "/" + e.key}}
	if l.savePFX {
		outputs = append(outputs, Output{Part: PartPFX, Path: keys + "/" + e.key + ".pfx"})
	}
	chain := PartChain
	if !downloadCA {
		chain = PartCert
	}
	return append(outputs, Output{Part: chain, Path: certs + "/" + e.cert})
}

// selection returns the object for "*".
func (l legacyLayout) selection(source, vault string) Object {
	return Object{
		Kind:   KindSelection,
		Source: source,
		Vault:  vault,
		Selection: &Selection{Each: func(name string) Object {
			o := l.object(source, vault, entry{name: name, cert: name, key: name})
			o.Optional, o.KeyIfExportable = true, true
			return o
		}},
	}
}
