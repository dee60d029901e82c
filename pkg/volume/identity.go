package volume

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
)

// secretField returns the Field of problems with a key of the Secret.
func secretField(key string) string { return "nodePublishSecretRef[" + key + "]" }

// identity reads which identity gets the objects, and what its login needs.
func (p *parser) identity(pod Pod) Identity {
	p.readSecret()
	kind := p.identityKind()
	id := Identity{
		Kind:       kind,
		ClientID:   p.id(kind, AttributeClientID, SecretClientID, isGUID, "is not a GUID"),
		ObjectID:   p.id(kind, AttributeObjectID, "", ValidName, "is not an object id, such as a GUID"),
		ResourceID: p.resourceID(),
		TenantID:   p.id(kind, AttributeTenantID, SecretTenantID, isTenant, "is not a GUID, a domain name or auto"),
	}
	if id.TenantID == TenantAuto {
		id.TenantID, id.DetectTenant = "", true
	}
	p.checkIDs(kind)
	if kind == ServicePrincipal {
		p.servicePrincipal(&id)
	}
	p.serviceAccountToken(&id, pod)
	return id
}

// readSecret reads the keys of the Secret that belong to a login, in any case, without the empty ones.
func (p *parser) readSecret() {
	p.login = make(map[string]string)
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
		if earlier, twice := p.login[name]; twice && earlier != value {
			p.problem(secretField(name), "the Secret has this key in two spellings with two values")
		}
		p.login[name] = value
	}
}

// identityKind applies the rule of [AttributeIdentity]. It returns nothing after a problem.
func (p *parser) identityKind() IdentityKind {
	if text, given := p.attributes[AttributeIdentity]; given {
		kinds := []string{string(Workload), string(ServicePrincipal), string(Managed), string(Cluster)}
		if slices.Contains(kinds, text) {
			return IdentityKind(text)
		}
		p.problem(AttributeIdentity, "%s must be %s%s", quote(text), alternatives(kinds), didYouMean(p.nearest(text, kinds)))
		return ""
	}
	switch {
	case p.login[SecretClientSecret] != "" || p.login[SecretClientCertificate] != "":
		return ServicePrincipal
	case p.given(AttributeClientID):
		return Workload
	case p.defaults.Identity != "":
		return p.defaults.Identity
	case len(p.login) > 0:
		return ServicePrincipal // incomplete: servicePrincipal reports what is missing
	}
	p.problem(AttributeIdentity, "the pod names none: set clientID (workload identity), or name a Secret with clientid "+
		"and clientsecret or clientcertificate in nodePublishSecretRef (servicePrincipal), or set identity to managed or to cluster")
	return ""
}

// id reads an id from its attribute or, for a service principal, from a key of the Secret; if both are given, they must
// agree. It returns lower case, so that an identity has one spelling. Problems do not repeat the value, which may be a
// client secret in the wrong field.
func (p *parser) id(kind IdentityKind, attribute, key string, valid func(string) bool, rule string) string {
	text, given := p.attributes[attribute]
	value, other := lower(text), lower(p.login[key])
	switch {
	case given && !valid(value):
		p.problem(attribute, "%s", rule)
	case given && other != "" && other != value:
		p.problem(attribute, "differs from the key %s of the Secret", key)
	case !given && kind == ServicePrincipal:
		value = other
		if value != "" && !valid(value) {
			p.problem(secretField(key), "%s", rule)
		}
	}
	return value
}

func (p *parser) resourceID() string {
	text, given := p.attributes[AttributeResourceID]
	if given && (len(text) > maxPath || !strings.HasPrefix(lower(text), "/subscriptions/") || strings.ContainsFunc(text, isUnprintable)) {
		p.problem(AttributeResourceID, "%s is not a resource id that begins with /subscriptions/", quote(text))
	}
	return text
}

// checkIDs reports ids that the kind of identity does not take, and a missing one.
func (p *parser) checkIDs(kind IdentityKind) {
	var ids []string
	for _, attribute := range []string{AttributeClientID, AttributeObjectID, AttributeResourceID} {
		if p.given(attribute) {
			ids = append(ids, attribute)
		}
	}
	if kind == Managed && len(ids) > 1 {
		p.problem(AttributeIdentity, "managed takes one of clientID, objectID and resourceID, not %s", strings.Join(ids, " and "))
	}
	for _, attribute := range ids {
		if kind == Cluster || (kind == Workload || kind == ServicePrincipal) && attribute != AttributeClientID {
			p.problem(attribute, "does not go with identity %s", kind)
		}
	}
	if kind == Workload && !p.given(AttributeClientID) {
		p.problem(AttributeClientID, "is missing, identity workload needs it")
	}
}

// maxLogin bounds each value of a login, which the driver keeps as long as the token. A certificate with an RSA key of
// 4,096 bits and four CAs has 12 KiB.
const maxLogin = 64 << 10

// servicePrincipal reads the login from the Secret. The client id may be an attribute instead.
func (p *parser) servicePrincipal(id *Identity) {
	if !p.given(AttributeClientID) && id.ClientID == "" {
		p.problem(AttributeIdentity,
			"servicePrincipal needs the client id, as clientID or as the key clientid of the Secret of nodePublishSecretRef")
	}
	for _, key := range []string{SecretClientSecret, SecretClientCertificate, SecretClientCertificatePassword} {
		if len(p.login[key]) > maxLogin {
			p.problem(secretField(key), "is longer than %d KiB", maxLogin>>10)
		}
	}
	secret, certificate := p.login[SecretClientSecret], p.login[SecretClientCertificate]
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
		id.ClientCertificatePassword = NewSecret([]byte(p.login[SecretClientCertificatePassword]))
	default:
		p.problem(AttributeIdentity,
			"servicePrincipal needs the key clientsecret or clientcertificate in the Secret of nodePublishSecretRef%s",
			p.secretHint())
	}
}

// secretHint names a misspelt key of the Secret, never its value.
func (p *parser) secretHint() string {
	for _, key := range slices.Sorted(maps.Keys(p.secrets)) {
		if right := p.nearest(key, []string{SecretClientSecret, SecretClientCertificate}); right != "" && p.secrets[key] != "" {
			return ", whose key " + quote(key) + " is not read" + didYouMean(right)
		}
	}
	return ""
}

// clientCertificate accepts PEM, and a PFX as bytes or as base64 text with any white space.
func clientCertificate(text string) (bytes []byte, ok bool) {
	if strings.Contains(text, "-----BEGIN ") || isPFX([]byte(text)) {
		return []byte(text), true
	}
	bytes, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	return bytes, err == nil && isPFX(bytes)
}

// isPFX looks for the beginning of PKCS#12 in DER: a SEQUENCE (0x30) with a length of more than one byte (0x8?).
func isPFX(b []byte) bool { return len(b) > 2 && b[0] == 0x30 && b[1]&0x80 != 0 }
