package volume

import (
	"maps"
	"slices"
	"strings"
)

// secretField is the Field of problems with a key of the Secret.
func secretField(key string) string { return "nodePublishSecretRef[" + key + "]" }

// identity decides who reads the vault, and reads what that login needs.
func (p *parser) identity(pod Pod) Identity {
	given := p.secretKeys()
	id := Identity{Kind: p.identityKind(given)}
	id.ClientID = p.guid(AttributeClientID)
	id.ObjectID = p.objectID()
	id.ResourceID = p.resourceID()
	p.tenant(&id, given)
	p.belongs(id.Kind)
	if theirs := lower(given[SecretClientID]); theirs != "" && isGUID(id.ClientID) && theirs != id.ClientID {
		p.problem(AttributeClientID, "differs from the key %s of the Secret", SecretClientID)
	}
	switch id.Kind {
	case ServicePrincipal:
		p.servicePrincipal(&id, given)
	case Workload:
		p.workload(&id, pod)
	case Managed:
		p.managed()
	}
	if id.Kind != Workload {
		p.foreignToken(pod)
	}
	return id
}

// identityKind applies the rule of the attribute identity; empty after a problem.
func (p *parser) identityKind(given map[string]string) IdentityKind {
	if text, named := p.attributes[AttributeIdentity]; named {
		kinds := []string{string(Workload), string(ServicePrincipal), string(Managed), string(Cluster)}
		if slices.Contains(kinds, text) {
			return IdentityKind(text)
		}
		p.problem(AttributeIdentity, "%s must be workload, servicePrincipal, managed or cluster%s",
			quote(text), didYouMean(p.nearest(text, kinds)))
		return ""
	}
	_, clientID := p.attributes[AttributeClientID]
	switch {
	case given[SecretClientSecret] != "" || given[SecretClientCertificate] != "":
		return ServicePrincipal
	case clientID:
		return Workload
	case p.defaults.Identity != "":
		return p.defaults.Identity
	case len(given) > 0:
		return ServicePrincipal // half of one: servicePrincipal says what is missing
	}
	p.problem(AttributeIdentity, "the pod names none: set clientID (workload identity), or name a Secret with clientid "+
		"and clientsecret or clientcertificate in nodePublishSecretRef (servicePrincipal), or set identity to managed or to cluster")
	return ""
}

// secretKeys reads the Secret's keys, in any case, without those that are empty.
func (p *parser) secretKeys() map[string]string {
	given := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(p.secrets)) {
		name, value := lower(key), p.secrets[key]
		switch name {
		case SecretClientID, SecretTenantID:
			value = strings.TrimSpace(value)
		case SecretClientSecret, SecretClientCertificatePassword:
			value = strings.TrimRight(value, "\r\n")
		case SecretClientCertificate:
		default:
			continue
		}
		if value == "" {
			continue
		}
		if earlier, twice := given[name]; twice && earlier != value {
			p.problem(secretField(name), "the Secret has this key in two spellings with two values")
		}
		given[name] = value
	}
	return given
}

// belongs reports the attributes that another kind of identity has.
func (p *parser) belongs(kind IdentityKind) {
	var foreign []string
	switch kind {
	case Workload, ServicePrincipal:
		foreign = []string{AttributeObjectID, AttributeResourceID}
	case Cluster:
		foreign = []string{AttributeClientID, AttributeObjectID, AttributeResourceID}
	}
	for _, attribute := range foreign {
		if _, given := p.attributes[attribute]; given {
			p.problem(attribute, "does not go with identity %s", kind)
		}
	}
}

// guid reads an attribute that is a GUID if it is there. In lower case, so that one identity has one name.
func (p *parser) guid(attribute string) string {
	text, given := p.attributes[attribute]
	value := lower(text)
	if given && !isGUID(value) {
		// Not repeated: what is pasted here by mistake may be the client secret.
		p.problem(attribute, "is not a GUID")
	}
	return value
}

// objectID is a GUID in every Azure that is known; the metadata service, not the login, judges it, so that the form is
// only held to what a query can carry.
func (p *parser) objectID() string {
	text, given := p.attributes[AttributeObjectID]
	if given && !ValidName(text) {
		p.problem(AttributeObjectID, "is not an object id, such as a GUID")
	}
	return lower(text)
}

func (p *parser) resourceID() string {
	text, given := p.attributes[AttributeResourceID]
	if !given {
		return ""
	}
	if len(text) > maxPath || !strings.HasPrefix(lower(text), "/subscriptions/") ||
		strings.ContainsFunc(text, isUnprintable) {
		p.problem(AttributeResourceID, "%s is not a resource id that begins with /subscriptions/", quote(text))
	}
	return text
}

// tenant reads the tenant from its attribute and from the Secret.
func (p *parser) tenant(id *Identity, given map[string]string) {
	text, named := p.attributes[AttributeTenantID]
	tenant := lower(text)
	valid := tenant == TenantAuto || isGUID(tenant) || isDomain(tenant)
	if named && !valid {
		p.problem(AttributeTenantID, "is not a GUID, a domain name or auto")
	}
	if theirs := lower(given[SecretTenantID]); theirs != "" {
		switch {
		case named && valid && theirs != tenant:
			p.problem(AttributeTenantID, "differs from the key %s of the Secret", SecretTenantID)
		case !named && id.Kind == ServicePrincipal:
			tenant = theirs
			if tenant != TenantAuto && !isGUID(tenant) && !isDomain(tenant) {
				p.problem(secretField(SecretTenantID), "is not a GUID, a domain name or auto")
			}
		}
	}
	if tenant == TenantAuto {
		id.DetectTenant = true
		return
	}
	id.TenantID = tenant
}

// isDomain takes a DNS name of two labels or more, in lower case; the last has a letter, so that no address passes.
func isDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !ValidName(label) {
			return false
		}
	}
	return strings.ContainsAny(labels[len(labels)-1], "abcdefghijklmnopqrstuvwxyz")
}

func (p *parser) managed() {
	var named []string
	for _, attribute := range []string{AttributeClientID, AttributeObjectID, AttributeResourceID} {
		if _, given := p.attributes[attribute]; given {
			named = append(named, attribute)
		}
	}
	if len(named) > 1 {
		p.problem(AttributeIdentity, "managed takes one of clientID, objectID and resourceID, not %s",
			strings.Join(named, " and "))
	}
}

// maxLogin bounds what a service principal logs in with, in bytes: the driver keeps it beside the token. A certificate with
// an RSA key of 4,096 bits and four CAs has 12 KiB.
const maxLogin = 64 << 10

// servicePrincipal reads the login from the Secret; the client id may stand in the attributes instead.
func (p *parser) servicePrincipal(id *Identity, given map[string]string) {
	if _, named := p.attributes[AttributeClientID]; !named {
		id.ClientID = lower(given[SecretClientID])
		switch {
		case id.ClientID == "":
			p.problem(AttributeIdentity,
				"servicePrincipal needs the client id, as clientID or as the key clientid of the Secret of nodePublishSecretRef")
		case !isGUID(id.ClientID):
			p.problem(secretField(SecretClientID), "is not a GUID")
		}
	}
	for _, key := range []string{SecretClientSecret, SecretClientCertificate, SecretClientCertificatePassword} {
		if len(given[key]) > maxLogin {
			p.problem(secretField(key), "is longer than %d KiB", maxLogin>>10)
		}
	}
	secret, certificate := given[SecretClientSecret], given[SecretClientCertificate]
	switch {
	case secret != "" && certificate != "":
		p.problem(AttributeIdentity, "servicePrincipal takes clientsecret or clientcertificate, and the Secret holds both")
	case secret != "":
		id.ClientSecret = NewSecret([]byte(secret))
	case certificate != "":
		bytes, ok := clientCertificate(certificate)
		if !ok {
			p.problem(secretField(SecretClientCertificate), "is neither PEM nor the base64 text of a PFX")
		}
		id.ClientCertificate = NewSecret(bytes)
		id.ClientCertificatePassword = NewSecret([]byte(given[SecretClientCertificatePassword]))
	default:
		p.problem(AttributeIdentity,
			"servicePrincipal needs the key clientsecret or clientcertificate in the Secret of nodePublishSecretRef%s",
			p.secretHint())
	}
}

// secretHint names a key of the Secret that may have been meant, never its value.
func (p *parser) secretHint() string {
	for _, key := range slices.Sorted(maps.Keys(p.secrets)) {
		if right := p.nearest(key, []string{SecretClientSecret, SecretClientCertificate}); right != "" && p.secrets[key] != "" {
			return ", whose key " + quote(key) + " is not read" + didYouMean(right)
		}
	}
	return ""
}
