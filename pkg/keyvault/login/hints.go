package login

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Refused is a refusal of a login by Entra ID or the metadata service.
type Refused struct {
	Answer      *azure.Answer
	Identity    volume.Identity
	Cloud       string // its name
	Tenant      string // of the token request
	VaultTenant string // from the vault's challenge; empty while unknown
}

// Sentinel maps a refused login to an error of package volume.
func (r Refused) Sentinel() error {
	if r.Answer.Unavailable() {
		return volume.ErrUnavailable
	}
	return volume.ErrUnauthenticated
}

// Hint returns what the user or the operator can do.
func (r Refused) Hint() string {
	if r.Answer.Service == azure.Metadata {
		return r.metadataHint()
	}
	hint := r.entraHint()
	if !r.Answer.Unavailable() && r.Tenant != "" && r.VaultTenant != "" && !strings.EqualFold(r.Tenant, r.VaultTenant) {
		hint += fmt.Sprintf(" (asked of tenant %s, while the vault belongs to tenant %s)", r.Tenant, r.VaultTenant)
	}
	return hint
}

func (r Refused) entraHint() string {
	a := r.Answer
	certificate := KindOf(r.Identity) == ByCertificate
	switch {
	case a.Foreign() && a.Status >= 400 && a.Status < 500 && a.Status != http.StatusTooManyRequests:
		return "that is no answer of Entra ID; check what answers under its name"
	case a.Has("AADSTS7000215"):
		return "the client secret is wrong; give its value, not its id, in " + r.keptIn()
	case a.Has("AADSTS7000222"):
		return "the client secret has expired; make a new one and put it into " + r.keptIn()
	case certificate && a.Has("AADSTS700027", "AADSTS50013", "AADSTS700030"):
		return "the client certificate is not one of the application's, or has expired; upload it to the application, or put the right one into " + r.keptIn()
	case certificate && a.Has("AADSTS700024"):
		return "the login that the client certificate signed is expired or not yet valid; check the clock of the node"
	case a.Has("AADSTS700016") && r.Identity.Kind == volume.Cluster:
		return fmt.Sprintf("tenant %s has no such application; check aadClientId and tenantId in the cluster's file, or set tenantID to auto", r.Tenant)
	case a.Has("AADSTS700016"):
		return fmt.Sprintf("tenant %s has no such application; check clientID and tenantID", r.Tenant)
	case a.Has("AADSTS500011"):
		return fmt.Sprintf("Key Vault is not known in tenant %s; is it a tenant of %s? Check tenantID and --cloud", r.Tenant, r.Cloud)
	case a.Has("AADSTS7000229", "AADSTS65001"):
		return fmt.Sprintf("the application has no service principal in tenant %s; create it, or check tenantID", r.Tenant)
	case a.Has("AADSTS7000112"):
		return "the application is disabled"
	case a.Has("AADSTS7002138") || a.Mentions("matches with case-insensitive comparison"):
		return "a federated credential of the application differs from the pod's token in upper and lower case alone; it needs exactly " + r.claims()
	case a.Has("AADSTS70021", "AADSTS70025", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS7002137", "AADSTS700223") ||
		a.Mentions("no matching federated identity record"):
		return "no federated credential of the application matches the pod's token; it needs one with " + r.claims()
	case a.Has("AADSTS700024"):
		return "the pod's token is expired or not yet valid; check the clocks, the kubelet brings a fresh one"
	case a.IssuerUnreached():
		return "Entra ID cannot fetch the keys of the token's issuer; tried again later. Can the issuer be reached from the internet? The token has " + r.claims()
	case a.Has("AADSTS50027", "AADSTS50013", "AADSTS700027", "AADSTS5000811", "AADSTS700030", "AADSTS500116"):
		return "the signature of the pod's token cannot be verified; is the cluster's issuer reachable and its key set up to date? The token has " + r.claims()
	case a.Has("AADSTS90002", "AADSTS900021", "AADSTS900023", "AADSTS50034"):
		return fmt.Sprintf("there is no tenant %s in %s; check tenantID and --cloud", r.Tenant, r.Cloud)
	case a.Has("AADSTS53003", "AADSTS530035"):
		return "a conditional access policy refuses the login from this node"
	case a.Status == http.StatusTooManyRequests:
		return "logins are throttled; tried again later"
	case a.Unavailable():
		return "the authority fails; tried again later"
	default:
		return "the login is refused; look the code up at https://login.microsoftonline.com/error"
	}
}

// metadataHint returns the hint for a refusal of the node's metadata service.
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling
func (r Refused) metadataHint() string {
	a, id := r.Answer, r.Identity
	switch {
	case a.Status == http.StatusTooManyRequests:
		return "the metadata service is throttled; tried again later"
	case a.Unavailable() && (!a.Foreign() || a.Status >= 500 || a.Status == http.StatusNotFound || a.Status == http.StatusGone):
		return "the metadata service fails; tried again later"
	case a.Foreign():
		return "that is no answer of a metadata service; does something else answer at " + azure.MetadataHost + "?"
	case a.Has("invalid_resource", "AADSTS500011"):
		return "it knows no vaults of " + r.Cloud + "; check --cloud"
	case a.Mentions("multiple user assigned identities") && id.Kind == volume.Cluster:
		return "several identities are assigned to the node; name one in userAssignedIdentityID of the cluster's file (--cluster-identity-file)"
	case a.Mentions("multiple user assigned identities"):
		return "several identities are assigned to the node; name one by clientID, objectID or resourceID"
	case strings.Contains(a.Error(), " AADSTS"):
		return "Entra ID refuses the identity; look the code up at https://login.microsoftonline.com/error"
	case a.Status == http.StatusBadRequest && id.ClientID+id.ObjectID+id.ResourceID == "":
		return "the node has no managed identity; switch on its own (system-assigned), or assign one to the VM or its scale set"
	case a.Status == http.StatusBadRequest:
		return "the node has no such identity; assign it to the VM or its scale set"
	default:
		return "that is no answer of a metadata service; does something else answer at " + azure.MetadataHost + "?"
	}
}

// keptIn returns where the client secret or certificate is stored.
func (r Refused) keptIn() string {
	if r.Identity.Kind == volume.Cluster {
		return "the cluster's file (--cluster-identity-file)"
	}
	return "the Secret of nodePublishSecretRef"
}

// claims returns the claims of the assertion that a federated credential must match. They are names, not secrets. The
// assertion itself is not shown.
func (r Refused) claims() string {
	var sent jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(string(r.Identity.Assertion.Reveal()), &sent); err != nil {
		return "the subject, issuer and audience of the pod's token"
	}
	return fmt.Sprintf("subject %q, issuer %q, audience %q", sent.Subject, sent.Issuer, strings.Join(sent.Audience, " "))
}
