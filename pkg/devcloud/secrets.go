package devcloud

import (
	"cmp"
	"maps"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// SecretOptions are the attributes of one version of a secret. The zero value is an enabled secret without any.
type SecretOptions struct {
	Version     string // 32 hex digits; empty means a new one; an existing one is replaced
	ContentType string
	Tags        map[string]string
	Disabled    bool
	Created     time.Time  // zero means now
	NotBefore   *time.Time // informational, as in Azure: the secret can be read at any time
	Expires     *time.Time

	// OfCaller makes the value different for each login, so that a test sees whose token read it: "TENANT CLIENT PROOF" is
	// appended to the value. The proof is "secret N" (the Nth of the identity, from 0), the subject of a service account
	// token, "certificate" or "managed".
	OfCaller bool

	// Kid and Managed make the secret look like the one behind a certificate. SetCertificate sets them.
	Kid     string
	Managed bool
}

// SetSecret adds a version of a secret, which becomes the latest, and returns its id. It does not check name and value, so
// that a test can set what Azure refuses.
func (v *Vault) SetSecret(name, value string, opts SecretOptions) (version string) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	ver := v.newSecret(value, opts)
	v.add(Secrets, name, ver)
	return ver.id
}

func (v *Vault) newSecret(value string, opts SecretOptions) *version {
	ver := &version{
		id:        strings.ToLower(cmp.Or(opts.Version, newVersion())),
		created:   opts.Created,
		notBefore: opts.NotBefore, expires: opts.Expires,
		disabled: opts.Disabled, tags: maps.Clone(opts.Tags), managed: opts.Managed,
		value: value, contentType: opts.ContentType, kid: opts.Kid, ofCaller: opts.OfCaller,
	}
	if ver.created.IsZero() {
		ver.created = v.changed()
	}
	ver.updated = ver.created
	return ver
}

func (v *Vault) secretBundle(o *object, ver *version, who caller) any {
	value := ver.value
	if ver.ofCaller {
		value += strings.Join([]string{who.tenant, who.clientID, who.proof}, " ")
	}
	bundle := azsecrets.Secret{
		ID:         new(azsecrets.ID(v.id(Secrets, o.name, ver.id))),
		Value:      &value,
		Attributes: secretAttributes(ver),
		Tags:       pointers(ver.tags),
	}
	bundle.ContentType, bundle.Managed = shown(ver.contentType), managed(ver)
	if ver.kid != "" {
		bundle.KID = new(azsecrets.ID(ver.kid))
	}
	return bundle
}

func (v *Vault) secretItem(id string, ver *version) *azsecrets.SecretProperties {
	return &azsecrets.SecretProperties{
		ID:          new(azsecrets.ID(id)),
		Attributes:  secretAttributes(ver),
		ContentType: shown(ver.contentType),
		Tags:        pointers(ver.tags),
		Managed:     managed(ver),
	}
}

func secretAttributes(ver *version) *azsecrets.SecretAttributes {
	return &azsecrets.SecretAttributes{
		Enabled: new(!ver.disabled), Created: &ver.created, Updated: &ver.updated,
		NotBefore: ver.notBefore, Expires: ver.expires,
		RecoveryLevel: new(recoveryLevel), RecoverableDays: new(recoverableDays),
	}
}

const (
	recoveryLevel         = "Recoverable+Purgeable"
	recoverableDays int32 = 90
)

// shown, managed and pointers omit what Azure omits from its JSON.
func shown(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func managed(ver *version) *bool {
	if !ver.managed {
		return nil
	}
	return &ver.managed
}

func pointers(tags map[string]string) map[string]*string {
	if len(tags) == 0 {
		return nil
	}
	out := make(map[string]*string, len(tags))
	for k, value := range tags {
		out[k] = &value
	}
	return out
}
