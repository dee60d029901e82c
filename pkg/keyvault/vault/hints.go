package vault

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Refused is a refusal of a read by a vault.
type Refused struct {
	Answer      *azure.Answer
	Object      volume.Object
	FromClass   bool   // the object is of a SecretProviderClass, see [WithoutIt]
	Managed     bool   // the token is of a managed identity, which exists in one tenant only
	Tenant      string // that issued the token
	VaultTenant string // from the vault's challenge; empty while unknown
}

// Sentinel maps a vault's refusal to an error of package volume.
func (r Refused) Sentinel() error {
	a := r.Answer
	switch {
	case a.Unavailable():
		return volume.ErrUnavailable
	case a.Disabled(), apiVersion(a):
		return volume.ErrPrecondition
	case a.Status == http.StatusBadRequest:
		return volume.ErrInvalid
	case a.Status == http.StatusUnauthorized:
		return volume.ErrUnauthenticated
	case a.Status == http.StatusForbidden:
		return volume.ErrDenied
	default:
		return volume.ErrNotFound
	}
}

// Hint returns what the user or the operator can do.
func (r Refused) Hint() string {
	a := r.Answer
	permission, role := requiredPermission(r.Object)
	switch {
	case a.Status >= 300 && a.Status < 400:
		return "a redirect is never followed; check what answers under this name"
	case a.Status == http.StatusTooManyRequests:
		return "the vault is throttled; it is asked again later"
	case a.Status >= 500:
		return "the vault fails; it is asked again later"
	case a.Foreign() || a.Unavailable() && !a.UnknownKey():
		return "that is no answer of a key vault; check what answers under this name"
	case a.Status == http.StatusUnauthorized:
		return r.unauthorized()
	case a.Disabled():
		return "it is disabled; enable it, or " + WithoutIt(r.FromClass)
	case apiVersion(a):
		return "the vault does not know this version of its interface; set --vault-api-version to one it knows, such as 7.4"
	case a.Status == http.StatusBadRequest:
		return "the vault does not accept this name or version; check them"
	case a.Has("ForbiddenByConnection") || a.Mentions("approved private link"):
		return "public access to the vault is off, so that an allowed address does not help; connect the node's network by an approved private endpoint"
	case a.Has("ForbiddenByFirewall") || a.Mentions("client address is not authorized"):
		return "the vault's firewall refuses this node; allow its address or subnet, or use a private endpoint"
	case a.Has("ForbiddenByRbac"):
		return fmt.Sprintf("the identity has no role for it; assign %q on the vault (a new assignment takes up to 10 minutes)", role)
	case a.Status == http.StatusForbidden:
		return fmt.Sprintf("the identity may not do %s; add it to the vault's access policy, or assign the role %q", permission, role)
	case r.Object.Version != "":
		return "there is no such object, or not in this version; check both, or recover it if it was deleted"
	default:
		return "there is no such object; check the name, or recover it if it was deleted"
	}
}

// WithoutIt returns how a volume is mounted without an object that is disabled or pending, as the end of a sentence.
func WithoutIt(fromClass bool) string {
	if fromClass {
		return "remove the object from the SecretProviderClass"
	}
	return "mark the object optional"
}

// unauthorized returns the hint for a token that the vault does not accept.
func (r Refused) unauthorized() string {
	a := r.Answer
	switch {
	case a.UnknownKey():
		return "the vault does not know the key that signed the token, which passes; it is asked again later"
	case a.Has("TokenExpired"):
		return "the token is expired by the vault's clock; check the clock of the node"
	case r.Managed:
		return fmt.Sprintf("the vault belongs to tenant %s and does not accept the identity; a managed identity is known in its own tenant alone", r.VaultTenant)
	case r.Tenant != "" && r.VaultTenant != "" && !strings.EqualFold(r.Tenant, r.VaultTenant):
		return fmt.Sprintf("the token is of tenant %s, the vault belongs to tenant %s; set tenantID to that one or leave it out", r.Tenant, r.VaultTenant)
	default:
		return fmt.Sprintf("the vault does not accept a token of tenant %s; check tenantID and --cloud", r.Tenant)
	}
}

// requiredPermission returns the permission that a read needs, and the role that includes it.
func requiredPermission(o volume.Object) (permission, role string) {
	permission = "get"
	if o.IsList() || o.Name == "" {
		permission = "list"
	}
	switch o.Kind {
	case volume.KindPublicCertificate:
		return "certificates/" + permission, "Key Vault Certificate User"
	case volume.KindKey:
		return "keys/" + permission, "Key Vault Reader"
	default:
		return "secrets/" + permission, "Key Vault Secrets User"
	}
}

// apiVersion reports whether the vault does not support the version of its interface in the request.
func apiVersion(a *azure.Answer) bool {
	return a.Status == http.StatusBadRequest &&
		(a.Has("UnsupportedApiVersion", "InvalidApiVersionParameter") || a.Mentions("api-version") || a.Mentions("is not recognized"))
}
