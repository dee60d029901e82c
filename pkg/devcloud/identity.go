package devcloud

import (
	"cmp"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"
)

// tenant is one directory of Entra ID.
type tenant struct {
	id         string
	identities []*Identity
}

// Identity is an application or a managed identity of a tenant.
type Identity struct {
	Tenant   string // id; created if it does not exist
	ClientID string
	ObjectID string // empty means a random one
	Name     string // as error texts show it; empty means the client id

	Secrets      []ClientSecret
	Federated    []FederatedCredential
	Certificates []*x509.Certificate // whose keys may sign assertions
	TrustedNames []TrustedName       // whose certificates may sign assertions

	// Managed assigns the identity to the node: the metadata service issues its tokens, by client id, object id or
	// ResourceID. A request without any gets the token of the SystemAssigned one, or of the only one.
	Managed        bool
	SystemAssigned bool
	// ResourceID is the claim xms_mirid of a managed identity: its own resource, or the scale set of the node for a
	// SystemAssigned one. Empty means one that is derived from Name.
	ResourceID string
}

// ClientSecret is a password of an application. A zero Expires means never.
type ClientSecret struct {
	Value   string
	Expires time.Time
}

// TrustedName trusts every certificate with a subject name and an issuer below Roots, as Entra ID does for applications
// with "subject name and issuer" authentication. The client must send its chain (header x5c).
type TrustedName struct {
	CommonName string
	Roots      []*x509.Certificate
}

// FederatedCredential trusts the tokens of an issuer for one subject. All three are compared byte by byte, as Entra ID
// does.
type FederatedCredential struct {
	Issuer   string
	Subject  string // "system:serviceaccount:NAMESPACE:NAME"
	Audience string // empty means DefaultAudience
}

// DefaultAudience is the audience of assertions for Entra ID in the public cloud.
const DefaultAudience = "api://AzureADTokenExchange"

// AddTenant adds a directory with domains as further names, or adds the domains to an existing one.
func (c *Cloud) AddTenant(id string, domains ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tenant(id)
	for _, domain := range domains {
		c.tenants[strings.ToLower(domain)] = t
	}
}

// tenant finds or creates a directory. The caller must hold c.mu.
func (c *Cloud) tenant(id string) *tenant {
	id = strings.ToLower(id)
	if c.tenants[id] == nil {
		c.tenants[id] = &tenant{id: id}
	}
	return c.tenants[id]
}

// AddIdentity adds an identity, or replaces the one with the same tenant and client id.
func (c *Cloud) AddIdentity(id Identity) error {
	if id.Tenant == "" || id.ClientID == "" {
		return errors.New("devcloud: an identity needs a tenant and a client id")
	}
	id.ObjectID = cmp.Or(id.ObjectID, newGUID())
	if id.Managed {
		id.ResourceID = cmp.Or(id.ResourceID, id.madeResourceID())
	}
	id.Secrets, id.Federated = slices.Clone(id.Secrets), slices.Clone(id.Federated)
	for i := range id.Federated {
		id.Federated[i].Audience = cmp.Or(id.Federated[i].Audience, DefaultAudience)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tenant(id.Tenant)
	t.remove(id.ClientID)
	t.identities = append(t.identities, &id)
	return nil
}

func (id *Identity) madeResourceID() string {
	const group = "/subscriptions/" + subscription + "/resourcegroups/dev/providers/"
	if id.SystemAssigned {
		return group + "Microsoft.Compute/virtualMachineScaleSets/node"
	}
	return group + "Microsoft.ManagedIdentity/userAssignedIdentities/" + cmp.Or(id.Name, id.ClientID)
}

// RemoveIdentity removes an identity. Its tokens stay valid until they expire, as in Azure.
func (c *Cloud) RemoveIdentity(tenant, clientID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tenants[strings.ToLower(tenant)]; t != nil {
		t.remove(clientID)
	}
}

func (t *tenant) remove(clientID string) {
	t.identities = slices.DeleteFunc(t.identities, func(id *Identity) bool { return strings.EqualFold(id.ClientID, clientID) })
}

// identity finds an identity. The caller must hold c.mu.
func (t *tenant) identity(clientID string) *Identity {
	for _, id := range t.identities {
		if strings.EqualFold(id.ClientID, clientID) {
			return id
		}
	}
	return nil
}
