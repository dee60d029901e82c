package devcloud

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// caller is the identity of an access token.
type caller struct{ clientID, objectID, issuer, tenant, proof string }

func (c caller) String() string {
	return fmt.Sprintf("appid=%s;oid=%s;iss=%s", c.clientID, c.objectID, c.issuer)
}

// accessClaims are the claims of an access token (version 1) that a vault reads.
type accessClaims struct {
	jwt.RegisteredClaims
	ClientID string `json:"appid"`
	ObjectID string `json:"oid"`
	TenantID string `json:"tid"`
	Proof    string `json:"proof"`
}

// authenticate verifies the access token of a request: signature, time, audience and issuer. Its refusals have the
// challenge, which names the issuer of tokens.
func (c *Cloud) authenticate(v *Vault, r *http.Request) (caller, error) {
	refuse := func(message string) (caller, error) { return caller{}, v.unauthorized(message) }
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return refuse("AKV10000: Request is missing a Bearer or PoP token.")
	}
	var claims accessClaims
	_, err := jwt.ParseWithClaims(token, &claims, c.signer.public,
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(v.now))
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse("[TokenExpired] Error validating token: 'S2S12086'.")
	case errors.Is(err, errUnknownKey):
		return refuse(unknownKey)
	case err != nil:
		return refuse("[BearerReadAccessTokenFailed] Error parsing or validating the token.")
	}
	if expected := v.nation.resource(); len(claims.Audience) != 1 || claims.Audience[0] != expected {
		return refuse(fmt.Sprintf("AKV10022: Invalid audience. Expected %s, found: %s.", expected, strings.Join(claims.Audience, ", ")))
	}
	if expected := v.nation.issuer(v.tenant.id); claims.Issuer != expected {
		return refuse(fmt.Sprintf("AKV10032: Invalid issuer. Expected one of %s, found %s.", expected, claims.Issuer))
	}
	return caller{claims.ClientID, claims.ObjectID, claims.Issuer, claims.TenantID, claims.Proof}, nil
}

const unknownKey = "AKV10046: Unable to resolve the key used for signature validation. EncodedJwtHeader: '***'"

// unauthorized is a refusal with the challenge of the vault.
func (v *Vault) unauthorized(message string) *refusal {
	return &refusal{
		status: http.StatusUnauthorized, code: "Unauthorized", message: message,
		challenge: fmt.Sprintf(`Bearer authorization="https://%s/%s", resource="%s"`, v.nation.login, v.tenant.id, v.nation.resource()),
	}
}

// SetFirewall makes the vault refuse every caller because of its address, or allows them again.
func (v *Vault) SetFirewall(on bool) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	v.firewall = on
}

// SetPublicAccess switches the public network access on, as at first, or off: then the vault refuses every caller that
// does not come through a private endpoint, and the dev cloud has none.
func (v *Vault) SetPublicAccess(on bool) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	v.private = !on
}

// authorize checks the public access, the firewall and the caller's rights. The caller must hold c.mu.
func (v *Vault) authorize(who caller, op operation, address string) error {
	if v.private {
		return forbidden("ForbiddenByConnection", fmt.Sprintf("Public network access is disabled and request is not from a trusted "+
			"service nor via an approved private link.\r\nCaller: %s\r\nVault: %s;location=%s", who, v.name, location))
	}
	if v.firewall {
		host, _, _ := net.SplitHostPort(address)
		return forbidden("ForbiddenByFirewall", fmt.Sprintf("Client address is not authorized and caller is not a trusted service.\r\n"+
			"Client address: %s\r\nCaller: %s\r\nVault: %s;location=%s", host, who, v.name, location))
	}
	verb := "get"
	if op.list {
		verb = "list"
	}
	if v.grants[strings.ToLower(who.clientID)][Right(string(op.kind)+"/"+verb)] {
		return nil
	}
	if !v.rbac {
		return forbidden("ForbiddenByPolicy", fmt.Sprintf(
			"The user, group or application '%s' does not have %s %s permission on key vault '%s;location=%s'. "+
				"For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
			who, op.kind, verb, v.name, location))
	}
	resource := "/subscriptions/" + subscription + "/resourcegroups/dev/providers/microsoft.keyvault/vaults/" + v.name
	if op.name != "" {
		resource += "/" + string(op.kind) + "/" + strings.ToLower(op.name)
	}
	return forbidden("ForbiddenByRbac", fmt.Sprintf("Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
		"Caller: %s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"+
		"DecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: %s;location=%s\r\n", who, action(op.kind, verb), resource, v.name, location))
}

const subscription = "5ca1ab1e-0000-4000-8000-000000000001"

// action returns the data action of Azure's role definitions.
func action(kind Kind, verb string) string {
	switch {
	case kind == Secrets && verb == "get":
		return "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	case kind == Secrets:
		return "Microsoft.KeyVault/vaults/secrets/readMetadata/action"
	default:
		return "Microsoft.KeyVault/vaults/" + string(kind) + "/read"
	}
}

func forbidden(inner, message string) error {
	return &refusal{status: http.StatusForbidden, code: "Forbidden", inner: inner, message: message}
}
