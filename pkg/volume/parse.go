package volume

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Parse turns the string maps of a NodePublishVolume request into a [Request]. The attributes are the volume context:
// what a user wrote and what the kubelet added. The secrets are those of the request: the Secret of
// nodePublishSecretRef and, in newer clusters, the service account tokens.
//
// The error is [Problems]: all problems at once, in an order that depends on the arguments alone.
func Parse(attributes, secrets map[string]string, defaults Defaults) (Request, error) {
	return NewParser(defaults).Parse(attributes, secrets)
}

// Parser is [Parse] for many volumes. It keeps the last attribute objects that it parsed, because the pods of a workload
// have the same: reading the YAML again takes 5 % of the time of publishing ten cached secrets, and 7 % of fifty.
// A Parser is safe for concurrent use.
type Parser struct {
	defaults Defaults
	last     atomic.Pointer[parsedList]
}

// parsedList is a list without problems and all that its meaning depends on, except the defaults.
type parsedList struct {
	text, vault string
	order       ChainOrder
	objects     []Object   // shared by requests, never changed
	manifests   []Manifest // the same
}

// NewParser returns a Parser with these defaults.
func NewParser(defaults Defaults) *Parser {
	defaults.VaultSuffix = lower(cmp.Or(defaults.VaultSuffix, "vault.azure.net"))
	defaults.TokenAudience = cmp.Or(defaults.TokenAudience, "api://AzureADTokenExchange")
	return &Parser{defaults: defaults}
}

// Parse does what the function [Parse] does.
func (all *Parser) Parse(attributes, secrets map[string]string) (Request, error) {
	return all.parse(attributes, secrets, true)
}

// ParseIdentity is [Parser.Parse] for callers that have a list of objects of their own: it reads the pod, the identity and
// the durations, and leaves the objects out.
func (all *Parser) ParseIdentity(attributes, secrets map[string]string) (Request, error) {
	return all.parse(attributes, secrets, false)
}

func (all *Parser) parse(attributes, secrets map[string]string, withObjects bool) (Request, error) {
	p := &parser{attributes: attributes, secrets: secrets, defaults: all.defaults, last: &all.last}
	if p.tooLarge() {
		return Request{}, p.err()
	}
	p.unknown()
	r := Request{Pod: p.pod()}
	r.Identity = p.identity(r.Pod)
	r.RotationInterval = p.rotationInterval(p.defaults.RotationInterval)
	r.Timeout = p.timeout()
	if withObjects {
		r.ChangeDetection = p.changeDetection()
		r.Objects, r.Folders = p.objects()
		r.Manifests, r.AllVersions = p.manifests, len(p.manifests) > 0
		p.checkPaths(r)
	}
	if err := p.err(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// RotationInterval reads only [AttributeRotationInterval], so that a republish can be answered without a full Parse.
// Without the attribute it returns the fallback; 0 means never. The error is the one that Parse returns.
func RotationInterval(attributes map[string]string, fallback time.Duration) (time.Duration, error) {
	p := &parser{attributes: attributes}
	interval := p.rotationInterval(fallback)
	return interval, p.err()
}

// parser reads the attributes of one volume and collects its problems.
type parser struct {
	attributes, secrets map[string]string
	defaults            Defaults
	last                *atomic.Pointer[parsedList]

	login     map[string]string // the keys of the Secret that belong to a login
	vault     string            // the attribute vault
	vaultUser string            // the first object that needs the attribute vault, if the attribute is absent
	order     ChainOrder
	manifests []Manifest
	values    int // the entries of files of values, and the fields of JSON values

	problems Problems
	found    int // the number of problems, including those that are not in the list
}

func (p *parser) text(attribute string) (text string, given bool) {
	text, given = p.attributes[attribute]
	return text, given
}

func (p *parser) given(attribute string) bool {
	_, given := p.attributes[attribute]
	return given
}

// allAttributes is the Field of problems that concern no single attribute.
const allAttributes = "volumeAttributes"

// maxAttributes bounds the number of attributes: one for each entry of a list, and as many again.
const maxAttributes = 2 * MaxEntries

// tooLarge protects the rest of the parser from input that no API server accepts.
func (p *parser) tooLarge() bool {
	size := 0
	for key, value := range p.attributes {
		size += len(key) + len(value)
	}
	switch {
	case size > MaxAttributeBytes:
		p.problem(allAttributes, "hold %d bytes, more than %d", size, MaxAttributeBytes)
	case len(p.attributes) > maxAttributes:
		p.problem(allAttributes, "are %d, more than %d", len(p.attributes), maxAttributes)
	}
	return p.found > 0
}

func (p *parser) pod() Pod {
	return Pod{
		Name:           p.podInfo(KubeletPodName),
		Namespace:      p.podInfo(KubeletPodNamespace),
		UID:            p.podInfo(KubeletPodUID),
		ServiceAccount: p.podInfo(KubeletServiceAccount),
	}
}

// csiDriver names the CSIDriver object in an error.
func (p *parser) csiDriver() string {
	return strings.TrimSpace("the CSIDriver object " + p.defaults.CSIDriver)
}

// podInfo reads an attribute that the kubelet adds. 253 bytes is the limit of names in the Kubernetes API.
func (p *parser) podInfo(key string) string {
	value := p.attributes[key]
	switch {
	case value == "":
		p.problem(key, "is missing, %s must have podInfoOnMount: true", p.csiDriver())
	case len(value) > 253 || strings.ContainsFunc(value, isUnprintable):
		p.problem(key, "%s is not a name that the kubelet sends", quote(value))
	}
	return value
}

// isUnprintable reports whether r is not a printable ASCII character. The space counts as unprintable.
func isUnprintable(r rune) bool { return r <= ' ' || r > '~' }

func (p *parser) rotationInterval(fallback time.Duration) time.Duration {
	return p.duration(AttributeRotationInterval, fallback, `of at least 30s such as "5m", or "0" for never`,
		func(d time.Duration) bool { return d == 0 || d >= MinRotationInterval })
}

func (p *parser) timeout() time.Duration {
	return p.duration(AttributeTimeout, DefaultTimeout, `above 0 and up to 110s such as "90s"`,
		func(d time.Duration) bool { return d > 0 && d <= MaxTimeout })
}

func (p *parser) duration(attribute string, fallback time.Duration, rule string, valid func(time.Duration) bool) time.Duration {
	text, given := p.attributes[attribute]
	if !given {
		return fallback
	}
	d, err := time.ParseDuration(text)
	if err != nil || !valid(d) {
		p.problem(attribute, "%s must be a Go duration %s", quote(text), rule)
		return fallback
	}
	return d
}

// boolean reads true or false, in any case.
func (p *parser) boolean(attribute string, fallback bool) bool {
	text, given := p.attributes[attribute]
	if !given {
		return fallback
	}
	value := lower(text)
	if value != "true" && value != "false" {
		p.problem(asField(attribute), "%s must be true or false", quote(text))
	}
	return value == "true"
}

// objects reads the three lists, in the order in which their files are written.
func (p *parser) objects() (objects []Object, folders []string) {
	switch {
	case p.given(AttributeSecrets) || p.given(AttributeCertificates):
		folders = []string{folderSecrets, folderCerts, folderKeys, folderCertsKeys}
	case !p.given(AttributeObjects):
		p.problem(allAttributes, "at least one of secrets, certificates and objects must be there")
	}
	p.vault = vault(p, AttributeVault, p.defaults.VaultSuffix)
	p.order = choice(p, AttributeChainOrder, ChainOrderChain, ChainOrderPFX, ChainOrderReverse)
	objects = append(p.legacySecrets(), p.legacyCertificates()...)
	objects = p.structured(objects)
	if p.vaultUser != "" {
		p.problem(AttributeVault, "is missing, and %s names no vault of its own", p.vaultUser)
	}
	return objects, folders
}

// defaultVault returns the attribute vault for an object that names no vault.
func (p *parser) defaultVault(source string) string {
	if !p.given(AttributeVault) && p.vaultUser == "" {
		p.vaultUser = source
	}
	return p.vault
}

// checkPaths reports the conflicts between paths that do not depend on what the vault holds.
func (p *parser) checkPaths(r Request) {
	tree := NewTree(r.Folders)
	var last *ValueFile
	for _, o := range r.Objects {
		if o.In != nil { // its entries follow each other
			if o.In != last {
				p.check(o.In.Source, tree.add(o.In.Path, o.In.Object()))
			}
			last = o.In
			continue
		}
		outputs := o.Outputs
		if o.NeedsCertificate {
			outputs = slices.Concat(o.Outputs, o.Split)
		}
		for _, output := range outputs {
			p.check(o.Source, tree.add(output.Path, o))
		}
	}
	for _, m := range r.Manifests {
		p.check(m.Source, tree.add(m.Path, Object{Source: m.Source}))
	}
}

// at returns the Field of an entry of a list.
func at(list string, index int) string { return list + "[" + strconv.Itoa(index) + "]" }
