package keyvault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// matter is what an error is about: who asked which vault for what.
type matter struct {
	cloud    Cloud
	identity volume.Identity
	object   volume.Object
	tenant   string // that the token was asked of
	vaults   string // tenant that the vault's challenge names; empty while unknown
}

// String is the beginning of every error: `secrets[0]: secret "a" of https://v.vault.azure.net as workload 1111-...`.
func (m matter) String() string {
	what := fmt.Sprintf("%s %q", m.object.Kind, m.object.Name)
	if m.object.Kind == volume.KindSelection {
		what = "the list of secrets"
	}
	if m.object.Version != "" {
		what += " version " + m.object.Version
	}
	return fmt.Sprintf("%s: %s of %s as %s", m.object.Source, what, m.object.Vault, m.login())
}

func (m matter) login() string {
	id := m.identity.ClientID
	if id == "" {
		id = m.identity.ObjectID + m.identity.ResourceID
	}
	return strings.TrimSuffix(string(m.identity.Kind)+" "+id, " ")
}

// right is the permission that the read needs, and the role that includes it.
func (m matter) right() (permission, role string) {
	switch m.object.Kind {
	case volume.KindSelection:
		return "secrets/list", "Key Vault Secrets User"
	case volume.KindPublicCertificate:
		return "certificates/get", "Key Vault Certificate User"
	case volume.KindKey:
		return "keys/get", "Key Vault Reader"
	default:
		return "secrets/get", "Key Vault Secrets User"
	}
}

// apiVersion says that the vault does not know the version of its interface that it was asked in.
func (a *answer) apiVersion() bool {
	return a.has("UnsupportedApiVersion", "InvalidApiVersionParameter") || a.mentions("api-version") || a.mentions("is not recognized")
}

// vaultHint says what to do about a vault's refusal.
// https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
func (m matter) vaultHint(a *answer) string {
	permission, role := m.right()
	switch {
	case a.disabled():
		return "it is disabled; enable it, or mark the object optional"
	case a.apiVersion() && a.status == http.StatusBadRequest:
		return "the vault does not know this version of its interface; set --vault-api-version to one it knows, such as 7.4"
	case a.status == http.StatusBadRequest:
		return "the vault does not accept this name or version; check them"
	case a.status == http.StatusUnauthorized && loginOf(m.identity) == byMetadata:
		return fmt.Sprintf("the vault belongs to tenant %s and does not accept the identity; a managed identity is known in its own tenant alone", m.vaults)
	case a.status == http.StatusUnauthorized && m.tenant != "" && m.vaults != "" && !strings.EqualFold(m.tenant, m.vaults):
		return fmt.Sprintf("the token is of tenant %s, the vault belongs to tenant %s; set tenantID to that one or leave it out", m.tenant, m.vaults)
	case a.status == http.StatusUnauthorized:
		return fmt.Sprintf("the vault does not accept a token of tenant %s; check tenantID and --cloud", m.tenant)
	case a.has("ForbiddenByFirewall", "ForbiddenByConnection") || a.mentions("client address is not authorized") || a.mentions("private link"):
		return "the vault's firewall refuses this node; allow its address or subnet, or use a private endpoint"
	case a.has("ForbiddenByRbac"):
		return fmt.Sprintf("the identity has no role for it; assign %q on the vault (a new assignment takes up to 10 minutes)", role)
	case a.status == http.StatusForbidden:
		return fmt.Sprintf("the identity may not do %s; add it to the vault's access policy, or assign the role %q", permission, role)
	case a.status == http.StatusNotFound && m.object.Version != "":
		return "there is no such object, or not in this version; check both, or recover it if it was deleted"
	case a.status == http.StatusNotFound:
		return "there is no such object; check the name, or recover it if it was deleted"
	case a.status == http.StatusTooManyRequests:
		return "the vault is throttled; it is asked again later"
	case a.status >= 300 && a.status < 400:
		return "a redirect is never followed; check what answers under this name"
	case a.status >= 500:
		return "the vault fails; it is asked again later"
	default:
		return "that is no answer of a key vault; check what answers under this name"
	}
}

// entraHint says what to do about a refusal of Entra ID.
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
func (m matter) entraHint(a *answer) string {
	hint := m.entraReason(a)
	if errors.Is(entraSentinel(a), volume.ErrUnauthenticated) && m.tenant != "" && m.vaults != "" && !strings.EqualFold(m.tenant, m.vaults) {
		hint += fmt.Sprintf(" (asked of tenant %s, while the vault belongs to tenant %s)", m.tenant, m.vaults)
	}
	return hint
}

func (m matter) entraReason(a *answer) string {
	certificate := loginOf(m.identity) == byCertificate
	switch {
	case a.metadata:
		return m.metadataReason(a)
	case a.has("AADSTS7000215"):
		return "the client secret is wrong; give its value, not its id, in " + m.keptIn()
	case a.has("AADSTS7000222"):
		return "the client secret has expired; make a new one and put it into " + m.keptIn()
	case certificate && a.has("AADSTS700027", "AADSTS50013", "AADSTS700030"):
		return "the client certificate is not one of the application's, or has expired; upload it to the application, or put the right one into " + m.keptIn()
	case certificate && a.has("AADSTS700024"):
		return "the login that the client certificate signed is expired or not yet valid; check the clock of the node"
	case a.has("AADSTS700016") && m.identity.Kind == volume.Cluster:
		return fmt.Sprintf("tenant %s has no such application; check aadClientId and tenantId in the cluster's file, or set tenantID to auto", m.tenant)
	case a.has("AADSTS700016"):
		return fmt.Sprintf("tenant %s has no such application; check clientID and tenantID", m.tenant)
	case a.has("AADSTS7000229", "AADSTS500011", "AADSTS65001"):
		return fmt.Sprintf("the application has no service principal in tenant %s; create it, or check tenantID", m.tenant)
	case a.has("AADSTS7000112"):
		return "the application is disabled"
	case a.has("AADSTS70021", "AADSTS70025", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS700223"):
		return "no federated credential of the application matches the pod's token; it needs one with " + m.claims()
	case a.has("AADSTS700024"):
		return "the pod's token is expired or not yet valid; check the clocks, the kubelet brings a fresh one"
	case a.has("AADSTS50027", "AADSTS50013", "AADSTS50166", "AADSTS700027", "AADSTS5000811", "AADSTS700030", "AADSTS500116"):
		return "the signature of the pod's token cannot be verified; is the cluster's issuer reachable and its key set up to date? The token has " + m.claims()
	case a.has("AADSTS90002", "AADSTS900021", "AADSTS900023", "AADSTS50034"):
		return fmt.Sprintf("there is no tenant %s in %s; check tenantID and --cloud", m.tenant, m.cloud.Name)
	case a.has("AADSTS53003", "AADSTS530035"):
		return "a conditional access policy refuses the login from this node"
	case a.status == http.StatusTooManyRequests:
		return "logins are throttled; tried again later"
	case errors.Is(entraSentinel(a), volume.ErrUnavailable):
		return "the authority fails; tried again later"
	default:
		return "the login is refused; look the code up at https://login.microsoftonline.com/error"
	}
}

// metadataReason says what to do about a refusal of the node's metadata service.
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling
func (m matter) metadataReason(a *answer) string {
	id := m.identity
	switch {
	case a.status == http.StatusTooManyRequests:
		return "the metadata service is throttled; tried again later"
	case errors.Is(entraSentinel(a), volume.ErrUnavailable):
		return "the metadata service fails; tried again later"
	case a.has("invalid_resource"):
		return "it knows no vaults of " + m.cloud.Name + "; check --cloud"
	case a.mentions("multiple user assigned identities") && id.Kind == volume.Cluster:
		return "several identities are assigned to the node; name one in userAssignedIdentityID of the cluster's file (--cluster-identity-file)"
	case a.mentions("multiple user assigned identities"):
		return "several identities are assigned to the node; name one by clientID, objectID or resourceID"
	case a.status == http.StatusBadRequest && id.ClientID+id.ObjectID+id.ResourceID == "":
		return "the node has no managed identity; switch on its own (system-assigned), or assign one to the VM or its scale set"
	case a.status == http.StatusBadRequest:
		return "the node has no such identity; assign it to the VM or its scale set"
	default:
		return "that is no answer of a metadata service; does something else answer at " + metadataHost + "?"
	}
}

// authority names who gives out the tokens of the identity.
func (m matter) authority() string {
	if loginOf(m.identity) == byMetadata {
		return "the node's metadata service"
	}
	return "Entra ID"
}

// keptIn names the place of a client secret or certificate.
func (m matter) keptIn() string {
	if m.identity.Kind == volume.Cluster {
		return "the cluster's file (--cluster-identity-file)"
	}
	return "the Secret of nodePublishSecretRef"
}

// claims names what a federated credential is matched by, from the assertion that was sent. The three are names; the
// assertion itself stays unseen.
func (m matter) claims() string {
	var said jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(string(m.identity.Assertion.Reveal()), &said); err != nil {
		return "the subject, issuer and audience of the pod's token"
	}
	return fmt.Sprintf("subject %q, issuer %q, audience %q", said.Subject, said.Issuer, strings.Join(said.Audience, " "))
}
