package devcloud

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// loginError is an error answer of Entra ID: error, and a text that begins with an AADSTS code.
type loginError struct {
	status int
	code   string // of RFC 6749, section 5.2
	aadsts int
	text   string
}

func (e *loginError) Error() string { return fmt.Sprintf("AADSTS%d: %s", e.aadsts, e.text) }

// serveLogin serves Entra ID: discovery, keys and the token endpoint.
func (c *Cloud) serveLogin(w http.ResponseWriter, r *http.Request) {
	trace := newGUID()
	h := w.Header()
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", trace)
	h.Set("x-ms-ests-server", "2.1.22600.3 - WEULR1 ProdSlices")

	n, _ := c.loginNation(hostOf(r)) // the host is a login host
	body, err := c.login(n, r)
	if err != nil {
		c.writeLoginError(w, r, trace, err)
		return
	}
	writeJSON(w, http.StatusOK, body)
}

func (c *Cloud) login(n nation, r *http.Request) (any, *loginError) {
	path := strings.Trim(r.URL.Path, "/")
	if path == "common/discovery/instance" {
		return c.discovery(r), nil
	}
	name, endpoint, _ := strings.Cut(path, "/")
	c.mu.Lock()
	t := c.tenants[strings.ToLower(name)]
	c.mu.Unlock()
	if t == nil {
		return nil, &loginError{http.StatusBadRequest, "invalid_request", 90002, "Tenant '" + name + "' not found. " +
			"Check to make sure you have the correct tenant ID and are signing into the correct cloud. " +
			"Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."}
	}
	switch endpoint {
	case "v2.0/.well-known/openid-configuration":
		return openID(hostOf(r), t.id), nil
	case "discovery/v2.0/keys", "discovery/keys":
		return c.signer.jwks(), nil
	case "oauth2/v2.0/token":
		return c.token(n, t, r)
	}
	return nil, &loginError{http.StatusNotFound, "invalid_request", 900144, "The request path '" + path + "' is not known."}
}

// discovery lists the hosts of each cloud that are the same Entra ID.
func (c *Cloud) discovery(r *http.Request) any {
	type cloudMetadata struct {
		Network string   `json:"preferred_network"`
		Cache   string   `json:"preferred_cache"`
		Aliases []string `json:"aliases"`
	}
	metadata := make([]cloudMetadata, 0, len(c.nations))
	for _, n := range c.nations {
		metadata = append(metadata, cloudMetadata{n.login, n.login, n.loginHosts()})
	}
	tenant := "common"
	if parts := strings.Split(r.URL.Query().Get("authorization_endpoint"), "/"); len(parts) > 3 {
		tenant = parts[3]
	}
	return map[string]any{
		"api-version":               "1.1",
		"metadata":                  metadata,
		"tenant_discovery_endpoint": "https://" + hostOf(r) + "/" + tenant + "/v2.0/.well-known/openid-configuration",
	}
}

func openID(host, tenant string) any {
	root := "https://" + host + "/" + tenant
	return map[string]any{
		"issuer":                                root + "/v2.0",
		"authorization_endpoint":                root + "/oauth2/v2.0/authorize",
		"token_endpoint":                        root + "/oauth2/v2.0/token",
		"jwks_uri":                              root + "/discovery/v2.0/keys",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
		"response_types_supported":              []string{"token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"tenant_region_scope":                   "EU",
	}
}

// writeLoginError adds ids and a time, which make each text of Entra ID different.
func (c *Cloud) writeLoginError(w http.ResponseWriter, r *http.Request, trace string, e *loginError) {
	correlation := r.Header.Get("client-request-id")
	if correlation == "" {
		correlation = newGUID()
	}
	now := c.now().UTC().Format("2006-01-02 15:04:05Z")
	writeJSON(w, e.status, map[string]any{
		"error":             e.code,
		"error_description": fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s", e.Error(), trace, correlation, now),
		"error_codes":       []int{e.aadsts},
		"timestamp":         now,
		"trace_id":          trace,
		"correlation_id":    correlation,
		"error_uri":         fmt.Sprintf("https://%s/error?code=%d", hostOf(r), e.aadsts),
	})
}

// tokenAnswer is the answer of RFC 6749, section 5.1, with the additional field of Entra ID.
type tokenAnswer struct {
	Type      string `json:"token_type"`
	Expires   int    `json:"expires_in"` // seconds
	ExtExpire int    `json:"ext_expires_in"`
	Token     string `json:"access_token"`
}

// token is the token endpoint, for client credentials only.
func (c *Cloud) token(n nation, t *tenant, r *http.Request) (any, *loginError) {
	form, bad := tokenForm(r)
	if bad != nil {
		return nil, bad
	}
	if bad := c.checkScope(n, t, form.Get("scope")); bad != nil {
		return nil, bad
	}
	clientID := form.Get("client_id")
	c.identified(r, clientID)
	c.mu.Lock()
	defer c.mu.Unlock()
	id := t.identity(clientID)
	if id == nil {
		return nil, &loginError{http.StatusBadRequest, "unauthorized_client", 700016, "Application with identifier '" + clientID +
			"' was not found in the directory '" + t.id + "'. This can happen if the application has not been installed by the " +
			"administrator of the tenant or consented to by any user in the tenant. " +
			"You may have sent your authentication request to the wrong tenant."}
	}
	method, bad := c.checkCredential(id, form, r)
	if bad != nil {
		return nil, bad
	}
	token, life, err := c.mint(grant{identity: id, tenant: t.id, nation: n, method: method, proof: id.proof(form)})
	if err != nil {
		return nil, &loginError{http.StatusInternalServerError, "server_error", 90033, "A transient error has occurred. Please try again."}
	}
	seconds := int(life / time.Second)
	return tokenAnswer{Type: "Bearer", Expires: seconds, ExtExpire: seconds, Token: token}, nil
}

// checkScope requires exactly one resource, the vaults of this cloud. MSAL adds the scopes of OpenID.
func (c *Cloud) checkScope(n nation, t *tenant, scope string) *loginError {
	for s := range strings.FieldsSeq(scope) {
		switch resource, ok := strings.CutSuffix(s, "/.default"); {
		case s == "openid" || s == "profile" || s == "offline_access":
			continue
		case !ok:
			return &loginError{http.StatusBadRequest, "invalid_scope", 1002012, "The provided value for scope " + scope +
				" is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."}
		case strings.TrimSuffix(resource, "/") != n.resource():
			return &loginError{http.StatusBadRequest, "invalid_resource", 500011, "The resource principal named " + resource +
				" was not found in the tenant named " + t.id + ". This can happen if the application has not been installed by the " +
				"administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."}
		default:
			return nil
		}
	}
	return missing("scope")
}

func missing(field string) *loginError {
	return &loginError{http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: '" + field + "'."}
}
