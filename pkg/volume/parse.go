package volume

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse turns the string maps of a NodePublishVolume request into a [Request]. The attributes are the whole volume
// context, what a user wrote and what the kubelet added; the secrets are the request's secrets, from the Secret of
// nodePublishSecretRef and, in newer clusters, with the service account tokens.
//
// The error is a list of [Problems] and [ErrInvalid]: every problem at once, each with its attribute and position,
// always in the same order.
func Parse(attributes, secrets map[string]string, defaults Defaults) (Request, error) {
	return parse(attributes, secrets, defaults, nil)
}

func parse(attributes, secrets map[string]string, defaults Defaults, known *lists) (Request, error) {
	p := &parser{attributes: attributes, secrets: secrets, defaults: defaults.complete(), lists: known}
	if p.tooLarge() {
		return Request{}, p.err()
	}
	p.unknown()
	r := Request{Pod: p.pod()}
	r.Identity = p.identity(r.Pod)
	r.RotationInterval = p.rotationInterval(defaults.RotationInterval)
	r.Timeout = p.timeout()
	r.Objects, r.Folders = p.objects()
	p.layOut(r)
	if err := p.err(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// RotationInterval reads [AttributeRotationInterval] alone, so that a republish can be answered without a full Parse.
// Without the attribute it is the fallback; 0 means never. The error is [ErrInvalid], the same that Parse gives.
func RotationInterval(attributes map[string]string, fallback time.Duration) (time.Duration, error) {
	p := &parser{attributes: attributes}
	interval := p.rotationInterval(fallback)
	return interval, p.err()
}

// parser collects the problems of one volume while its attributes are read.
type parser struct {
	attributes, secrets map[string]string
	defaults            Defaults
	lists               *lists

	collector
}

func (d Defaults) complete() Defaults {
	if d.VaultSuffix == "" {
		d.VaultSuffix = "vault.azure.net"
	}
	d.VaultSuffix = lower(d.VaultSuffix)
	if d.TokenAudience == "" {
		d.TokenAudience = "api://AzureADTokenExchange"
	}
	return d
}

// allAttributes is the Field of problems with no single attribute.
const allAttributes = "volumeAttributes"

// maxAttributes bounds their number: one for each entry of a list, and as many again.
const maxAttributes = 2 * MaxEntries

// tooLarge keeps the rest of the parser from working on what no API server let through.
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

// unknown reports the attributes that nobody reads.
func (p *parser) unknown() {
	for _, key := range slices.Sorted(maps.Keys(p.attributes)) {
		if strings.HasPrefix(key, KubeletPrefix) || strings.HasPrefix(key, AttributeDownloadCAPrefix) ||
			slices.Contains(attributeNames, key) {
			continue
		}
		p.problem(asField(key), "unknown attribute%s", p.attributeHint(key))
	}
}

func (p *parser) pod() Pod {
	return Pod{
		Name:           p.kubelet(KubeletPodName),
		Namespace:      p.kubelet(KubeletPodNamespace),
		UID:            p.kubelet(KubeletPodUID),
		ServiceAccount: p.kubelet(KubeletServiceAccount),
	}
}

// kubelet reads what says who the pod is. The bound is that of every name in the API.
func (p *parser) kubelet(key string) string {
	value := p.attributes[key]
	switch {
	case value == "":
		p.problem(key, "is missing, the CSIDriver object must have podInfoOnMount: true")
	case len(value) > 253 || strings.ContainsFunc(value, isUnprintable):
		p.problem(key, "%s is not a name that the kubelet sends", quote(value))
	}
	return value
}

// isUnprintable says whether an ASCII text may not hold the rune.
func isUnprintable(r rune) bool { return r <= ' ' || r > '~' }

func (p *parser) rotationInterval(fallback time.Duration) time.Duration {
	text, given := p.attributes[AttributeRotationInterval]
	if !given {
		return fallback
	}
	interval, err := time.ParseDuration(text)
	if err != nil || interval != 0 && interval < MinRotationInterval {
		p.problem(AttributeRotationInterval,
			`%s must be a Go duration of at least 30s such as "5m", or "0" for never`, quote(text))
		return fallback
	}
	return interval
}

func (p *parser) timeout() time.Duration {
	text, given := p.attributes[AttributeTimeout]
	if !given {
		return DefaultTimeout
	}
	timeout, err := time.ParseDuration(text)
	if err != nil || timeout <= 0 || timeout > MaxTimeout {
		p.problem(AttributeTimeout, `%s must be a Go duration above 0 and up to 110s such as "90s"`, quote(text))
		return DefaultTimeout
	}
	return timeout
}

// boolean reads true or false in any case, and nothing else.
func (p *parser) boolean(attribute string, fallback bool) bool {
	text, given := p.attributes[attribute]
	if !given {
		return fallback
	}
	switch lower(text) {
	case "true":
		return true
	case "false":
		return false
	}
	p.problem(asField(attribute), "%s must be true or false", quote(text))
	return fallback
}

func (p *parser) chainOrder() ChainOrder {
	text, given := p.attributes[AttributeChainOrder]
	if !given {
		return ChainOrderChain
	}
	order := ChainOrder(text)
	switch order {
	case ChainOrderChain, ChainOrderPFX, ChainOrderReverse:
	default:
		p.problem(AttributeChainOrder, "%s must be chain, pfx or reverse", quote(text))
	}
	return order
}

// objects reads the three lists, in the order in which their files are laid down.
func (p *parser) objects() (objects []Object, folders []string) {
	_, secrets := p.attributes[AttributeSecrets]
	_, certificates := p.attributes[AttributeCertificates]
	_, structured := p.attributes[AttributeObjects]
	if !secrets && !certificates && !structured {
		p.problem(allAttributes, "at least one of secrets, certificates and objects must be there")
	}
	if secrets || certificates {
		folders = []string{folderSecrets, folderCerts, folderKeys, folderCertsKeys}
	}
	vault := p.defaultVault()
	order := p.chainOrder()
	objects = slices.Concat(p.legacySecrets(vault, order), p.legacyCertificates(vault), p.structured(vault, order))
	if vault.needed != "" {
		p.problem(AttributeVault, "is missing, and %s names no vault of its own", vault.needed)
	}
	return objects, folders
}

// layOut finds the conflicts that do not depend on what the vault holds.
func (p *parser) layOut(r Request) {
	tree := NewTree(r.Folders)
	for _, o := range r.Objects {
		outputs := o.Outputs
		if o.NeedsCertificate {
			outputs = slices.Concat(o.Outputs, o.Split)
		}
		for _, output := range outputs {
			if problem := tree.add(output.Path, o); problem != "" {
				p.problem(o.Source, "%s", problem)
			}
		}
	}
}

// at is the field of an entry of a list.
func at(list string, position int) string { return list + "[" + strconv.Itoa(position) + "]" }
