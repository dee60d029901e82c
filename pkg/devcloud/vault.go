package devcloud

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// Kind is a kind of object in a vault; the values are the collections in its paths.
type Kind string

// The kinds of object.
const (
	Secrets      Kind = "secrets"
	Certificates Kind = "certificates"
	Keys         Kind = "keys"
)

// Right is what an identity may do in a vault, as in an access policy.
type Right string

// The rights. Reading a certificate with its private key needs only SecretsGet, as in Azure.
const (
	SecretsGet       Right = "secrets/get"
	SecretsList      Right = "secrets/list"
	CertificatesGet  Right = "certificates/get"
	CertificatesList Right = "certificates/list"
	KeysGet          Right = "keys/get"
	KeysList         Right = "keys/list"
)

var allRights = []Right{SecretsGet, SecretsList, CertificatesGet, CertificatesList, KeysGet, KeysList}

// VaultOptions are the options of AddVault.
type VaultOptions struct {
	Tenant string // id of the directory that the vault trusts; created if it does not exist
	Suffix string // of the host; empty means vault.azure.net
	RBAC   bool   // refusals have the texts of role assignments instead of access policies
}

// Vault is one Key Vault. The case of object names does not matter, as in Azure.
type Vault struct {
	cloud                   *Cloud
	nation                  nation
	name                    string
	tenant                  *tenant
	rbac, firewall, private bool
	pageSize                int
	ahead                   time.Duration               // of the clock, see SetClock
	shows                   ServerCertificate           // see SetServerCertificate
	objects                 map[Kind]map[string]*object // by lower-case name
	names                   map[Kind][]string           // of objects, sorted, because a list of thousands has hundreds of pages
	grants                  map[string]map[Right]bool   // by lower-case client id
}

// object is one name of one kind, with all its versions, oldest first.
type object struct {
	name     string
	deleted  bool
	versions []*version
}

// version is one version of an object. The kind decides which of the last fields are set.
type version struct {
	id                 string
	created, updated   time.Time
	notBefore, expires *time.Time
	disabled           bool
	tags               map[string]string
	managed            bool

	value, contentType string // secrets
	ofCaller           bool   // secrets
	kid                string // secrets behind a certificate
	certificate        *Certificate
	options            CertificateOptions // certificates
	exportable         bool               // certificates
	imported           bool               // certificates
	jwk                *azkeys.JSONWebKey
}

var vaultName = regexp.MustCompile(`^[a-z](-?[a-z0-9])*$`)

// AddVault adds an empty vault. It returns an error if the name, the suffix or the tenant is invalid, or the name exists.
func (c *Cloud) AddVault(name string, opts VaultOptions) (*Vault, error) {
	lower := strings.ToLower(name)
	if n := len(lower); n < 3 || n > 24 || !vaultName.MatchString(lower) {
		return nil, fmt.Errorf("devcloud: %q is no name of a vault: 3 to 24 letters, digits and single hyphens", name)
	}
	host := lower + "." + strings.ToLower(cmp.Or(opts.Suffix, "vault.azure.net"))
	n, ok := c.vaultNation(host)
	if !ok {
		return nil, fmt.Errorf("devcloud: no cloud has vaults under %s", opts.Suffix)
	}
	if opts.Tenant == "" {
		return nil, fmt.Errorf("devcloud: vault %s needs a tenant", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vaults[host] != nil {
		return nil, fmt.Errorf("devcloud: vault %s exists already", host)
	}
	v := &Vault{
		cloud: c, nation: n, name: lower, tenant: c.tenant(opts.Tenant), rbac: opts.RBAC, pageSize: pageSize,
		objects: map[Kind]map[string]*object{Secrets: {}, Certificates: {}, Keys: {}}, names: map[Kind][]string{},
		grants: map[string]map[Right]bool{},
	}
	c.vaults[host] = v
	return v, nil
}

// Vault finds a vault by its name (in the public cloud), host or URL; nil means that there is none.
func (c *Cloud) Vault(name string) *Vault {
	host := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(name, "https://"), "/"))
	if !strings.Contains(host, ".") {
		host += ".vault.azure.net"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vaults[host]
}

// RemoveVault removes a vault and its name.
func (c *Cloud) RemoveVault(v *Vault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.vaults, v.Host())
}

// Host is the vault's host, for example "shop.vault.azure.net".
func (v *Vault) Host() string { return v.name + "." + v.nation.suffix }

// URL is the vault's address, for example "https://shop.vault.azure.net".
func (v *Vault) URL() string { return "https://" + v.Host() }

// Grant gives an identity rights in the vault; without rights, all of them.
func (v *Vault) Grant(clientID string, rights ...Right) { v.allow(clientID, true, rights) }

// Deny removes rights; without rights, all of them. An identity without a grant has none.
func (v *Vault) Deny(clientID string, rights ...Right) { v.allow(clientID, false, rights) }

func (v *Vault) allow(clientID string, allowed bool, rights []Right) {
	if len(rights) == 0 {
		rights = allRights
	}
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	grants := v.grants[strings.ToLower(clientID)]
	if grants == nil {
		grants = map[Right]bool{}
		v.grants[strings.ToLower(clientID)] = grants
	}
	for _, right := range rights {
		grants[right] = allowed
	}
}

// Disable disables one version of an object; an empty version means the latest. With a certificate its secret and its key
// are disabled, as in Azure.
func (v *Vault) Disable(kind Kind, name, version string) error {
	return v.setDisabled(kind, name, version, true)
}

// Enable undoes Disable.
func (v *Vault) Enable(kind Kind, name, version string) error {
	return v.setDisabled(kind, name, version, false)
}

func (v *Vault) setDisabled(kind Kind, name, id string, disabled bool) error {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	o, ver := v.find(kind, name, id)
	if ver == nil {
		return fmt.Errorf("devcloud: no %s/%s/%s in %s", kind, name, id, v.Host())
	}
	for _, k := range partsOf(kind) {
		if _, part := v.find(k, o.name, ver.id); part != nil {
			part.disabled, part.updated = disabled, v.changed()
		}
	}
	return nil
}

// Rotate adds a version to a secret, with a random value and the attributes of the latest version, or to a certificate,
// issued like the latest, and returns its id.
func (v *Vault) Rotate(kind Kind, name string) (version string, err error) {
	v.cloud.mu.Lock()
	o, latest := v.find(kind, name, "")
	v.cloud.mu.Unlock()
	switch {
	case latest == nil:
		return "", fmt.Errorf("devcloud: no %s/%s in %s", kind, name, v.Host())
	case kind == Secrets && !latest.managed:
		return v.SetSecret(o.name, newVersion(), SecretOptions{ContentType: latest.contentType, Tags: latest.tags}), nil
	case kind == Certificates && !latest.imported:
		opts := latest.options
		opts.Version, opts.Created, opts.Disabled = "", time.Time{}, false
		cert, err := v.SetCertificate(o.name, opts)
		if err != nil {
			return "", err
		}
		return cert.Version, nil
	}
	return "", fmt.Errorf("devcloud: %s/%s in %s is neither a plain secret nor an issued certificate", kind, name, v.Host())
}

// Delete removes an object with all its versions. With a certificate its secret and its key are removed. Setting it again
// begins with no versions.
func (v *Vault) Delete(kind Kind, name string) error {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	o, _ := v.find(kind, name, "")
	if o == nil {
		return fmt.Errorf("devcloud: no %s/%s in %s", kind, name, v.Host())
	}
	for _, k := range partsOf(kind) {
		if part := v.objects[k][strings.ToLower(name)]; part != nil {
			part.deleted = true
		}
	}
	return nil
}

// find finds a version; an empty id means the latest. It does not find deleted objects. The caller must hold cloud.mu.
func (v *Vault) find(kind Kind, name, id string) (*object, *version) {
	o := v.objects[kind][strings.ToLower(name)]
	if o == nil || o.deleted {
		return nil, nil
	}
	if id == "" {
		latest := o.latest()
		return o, latest
	}
	for _, ver := range o.versions {
		if strings.EqualFold(ver.id, id) {
			return o, ver
		}
	}
	return o, nil
}

// latest is the version without its id: the last one that is issued, if one is.
func (o *object) latest() *version {
	for _, ver := range slices.Backward(o.versions) {
		if !ver.options.Pending {
			return ver
		}
	}
	return o.versions[len(o.versions)-1]
}

// add appends a version, or replaces the one with the same id. The caller must hold cloud.mu.
func (v *Vault) add(kind Kind, name string, ver *version) {
	o := v.objects[kind][strings.ToLower(name)]
	if o == nil || o.deleted {
		o = &object{name: name}
		v.put(kind, o)
	}
	for i, old := range o.versions {
		if old.id == ver.id {
			o.versions[i] = ver
			return
		}
	}
	o.versions = append(o.versions, ver)
}

// put adds an object, or replaces a deleted one. The caller must hold cloud.mu.
func (v *Vault) put(kind Kind, o *object) {
	name := strings.ToLower(o.name)
	if i, known := slices.BinarySearch(v.names[kind], name); !known {
		v.names[kind] = slices.Insert(v.names[kind], i, name)
	}
	v.objects[kind][name] = o
}

// live returns the objects of a kind that are not deleted, by name. The caller must hold cloud.mu.
func (v *Vault) live(kind Kind) []*object {
	var live []*object
	for _, name := range v.names[kind] {
		if o := v.objects[kind][name]; !o.deleted {
			live = append(live, o)
		}
	}
	return live
}

// id is the identifier of an object or, with a version, of one of its versions.
func (v *Vault) id(kind Kind, name, version string) string {
	id := v.URL() + "/" + string(kind) + "/" + name
	if version != "" {
		id += "/" + version
	}
	return id
}
