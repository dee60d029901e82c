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
	folderCertsKeys = "certs_keys" // both, where a certificate and its key have different file names
)

// entry is one segment of the predecessor's grammar, name[:version[:certfile[:keyfile]]].
type entry struct {
	name, version, cert, key string
}

// segments splits a list at semicolons. A segment loses the white space around it, never any within, and what is blank
// is dropped. All is set for a "*" standing alone.
func segments(list string) (entries []entry, all bool) {
	for segment := range strings.SplitSeq(list, ";") {
		segment = strings.TrimSpace(segment)
		if segment == "" {
			continue
		}
		// The predecessor ignores a fifth part and whatever follows.
		parts := strings.SplitN(segment, ":", 5)
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

// entries reads a list of the predecessor's grammar and hands each valid entry, once, to use.
func (p *parser) entries(attribute string, use func(source string, e entry)) (all bool) {
	list, all := segments(p.attributes[attribute])
	if len(list) > MaxEntries {
		p.problem(attribute, "has more than %d entries", MaxEntries)
		return all
	}
	if all {
		return true
	}
	seen := make(map[entry]bool, len(list))
	for i, e := range list {
		if e, ok := p.entry(at(attribute, i), e); ok && !seen[e] {
			seen[e] = true
			use(at(attribute, i), e)
		}
	}
	return false
}

// entry validates one segment.
func (p *parser) entry(source string, e entry) (valid entry, ok bool) {
	before := p.found
	if e.name == "*" {
		p.problem(source, `"*" must stand alone`)
		return e, false
	}
	if problem := nameProblem(e.name); problem != "" {
		p.problem(source, "%s", problem)
		return e, false // the file names may be the same bad name, which says nothing new
	}
	version, problem := parseVersion(e.version)
	if problem != "" {
		p.problem(source, "%s", problem)
	}
	e.version = version
	if problem := fileNameProblem(e.cert); problem != "" {
		p.problem(source, "the certfile %s %s", quote(e.cert), problem)
	}
	if problem := fileNameProblem(e.key); problem != "" && e.key != e.cert {
		p.problem(source, "the keyfile %s %s", quote(e.key), problem)
	}
	return e, p.found == before
}

// legacySecrets reads the attribute secrets and those that say how its certificates are written.
func (p *parser) legacySecrets(vault *defaultVault, order ChainOrder) (objects []Object) {
	layout := legacyLayout{order: order, savePFX: p.boolean(AttributeSavePFX, false)}
	layout.downloadCA = p.boolean(AttributeDownloadCA, true)
	layout.downloadCAOf = p.downloadCAOf()

	all := p.entries(AttributeSecrets, func(source string, e entry) {
		objects = append(objects, layout.object(source, vault.get(source), e))
	})
	if all {
		source := at(AttributeSecrets, 0)
		return []Object{layout.selection(source, vault.get(source))}
	}
	return objects
}

// downloadCAOf reads the attributes downloadCACertificates.NAME, by name in lower case. One about a name that no entry
// has is of no use and no harm, as with the predecessor: manifests often share their settings and not their lists.
func (p *parser) downloadCAOf() map[string]bool {
	values := make(map[string]bool)
	for _, key := range slices.Sorted(maps.Keys(p.attributes)) {
		name, found := strings.CutPrefix(key, AttributeDownloadCAPrefix)
		if !found {
			continue
		}
		if problem := nameProblem(name); problem != "" {
			p.problem(asField(key), "%s", problem)
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

// legacyCertificates reads the attribute certificates. It has no "*": the predecessor could list secrets only.
func (p *parser) legacyCertificates(vault *defaultVault) (objects []Object) {
	all := p.entries(AttributeCertificates, func(source string, e entry) {
		objects = append(objects, Object{
			Kind:    KindPublicCertificate,
			Source:  source,
			Vault:   vault.get(source),
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

// legacyLayout is how the predecessor lays out a secret.
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

// split is the files of a certificate: the key, beside it the PFX, and the chain, in the predecessor's order.
func (l legacyLayout) split(e entry) []Output {
	keys, certs := folderKeys, folderCerts
	if e.cert != e.key {
		keys, certs = folderCertsKeys, folderCertsKeys
	}
	chain := PartChain
	downloadCA, given := l.downloadCAOf[lower(e.name)]
	if !given {
		downloadCA = l.downloadCA
	}
	if !downloadCA {
		chain = PartCert
	}
	outputs := []Output{{Part: PartKey, Path: keys + "/" + e.key}}
	if l.savePFX {
		outputs = append(outputs, Output{Part: PartPFX, Path: keys + "/" + e.key + ".pfx"})
	}
	return append(outputs, Output{Part: chain, Path: certs + "/" + e.cert})
}

// selection is the "*". What is deleted or disabled between the list and the get is skipped: each object is optional.
func (l legacyLayout) selection(source, vault string) Object {
	return Object{
		Kind:   KindSelection,
		Source: source,
		Vault:  vault,
		Selection: &Selection{Each: func(name string) Object {
			o := l.object(source, vault, entry{name: name, cert: name, key: name})
			o.Optional = true
			return o
		}},
	}
}
