package devcloud

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// imdsTokenPath is the only path that the metadata service serves, without the slashes at its ends.
const imdsTokenPath = "metadata/identity/oauth2/token"

// serveIMDS issues tokens of the managed identities of the node. It is plain HTTP, and requires the header Metadata and no
// header of a proxy.
func (c *Cloud) serveIMDS(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	refuse := func(status int, code, text string) {
		writeJSON(w, status, map[string]string{"error": code, "error_description": text})
	}
	switch {
	case strings.Trim(r.URL.Path, "/") != imdsTokenPath:
		refuse(http.StatusNotFound, "not_found", "The requested resource was not found")
	case r.Method != http.MethodGet:
		refuse(http.StatusMethodNotAllowed, "method_not_allowed", "Only GET is supported")
	case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
		refuse(http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
	case r.Header.Get("X-Forwarded-For") != "":
		refuse(http.StatusBadRequest, "invalid_request", "X-Forwarded-For is not allowed")
	case query.Get("api-version") == "":
		refuse(http.StatusBadRequest, "invalid_request", "Required query variable 'api-version' is missing")
	case query.Get("resource") == "":
		refuse(http.StatusBadRequest, "invalid_request", "Required query variable 'resource' is missing")
	default:
		c.serveManaged(w, r, refuse)
	}
}

func (c *Cloud) serveManaged(w http.ResponseWriter, r *http.Request, refuse func(int, string, string)) {
	query := r.URL.Query()
	resource := strings.TrimSuffix(query.Get("resource"), "/")
	var cloud *nation
	for _, n := range c.nations {
		if n.resource() == resource {
			cloud = &n
		}
	}
	if cloud == nil {
		refuse(http.StatusBadRequest, "invalid_resource", "AADSTS500011: The resource principal named "+resource+" was not found in the tenant.")
		return
	}
	c.mu.Lock()
	t, id, why := c.assigned(query.Get("client_id"), query.Get("object_id"), query.Get("msi_res_id"))
	var token string
	var life time.Duration
	var err error
	if id != nil {
		token, life, err = c.mint(grant{identity: id, tenant: t.id, nation: *cloud, method: "2", proof: "managed"})
	}
	c.mu.Unlock()
	switch {
	case err != nil:
		refuse(http.StatusInternalServerError, "server_error", "Failed to retrieve token from the Active directory.")
		return
	case id == nil:
		refuse(http.StatusBadRequest, "invalid_request", why)
		return
	}
	c.identified(r, id.ClientID)
	now := c.now()
	writeJSON(w, http.StatusOK, map[string]string{
		"access_token": token, "client_id": id.ClientID, "resource": resource, "token_type": "Bearer",
		"expires_in": strconv.Itoa(int(life / time.Second)), "ext_expires_in": strconv.Itoa(int(life / time.Second)),
		"expires_on": strconv.FormatInt(now.Add(life).Unix(), 10), "not_before": strconv.FormatInt(now.Unix(), 10),
	})
}

// assigned finds the managed identity of a request, or returns why there is none. Without any id it is the system-assigned
// identity or, if the node has none, the only one of the node. The caller must hold c.mu.
func (c *Cloud) assigned(clientID, objectID, resourceID string) (of *tenant, id *Identity, why string) {
	const none, several = "Identity not found",
		"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	var others int
	for t, candidate := range c.managed() {
		switch {
		case clientID+objectID+resourceID == "" && candidate.SystemAssigned,
			clientID != "" && strings.EqualFold(candidate.ClientID, clientID),
			objectID != "" && strings.EqualFold(candidate.ObjectID, objectID),
			resourceID != "" && strings.EqualFold(candidate.ResourceID, resourceID):
			return t, candidate, ""
		case clientID+objectID+resourceID == "":
			of, id = t, candidate
			others++
		}
	}
	switch {
	case others == 1:
		return of, id, ""
	case others > 1:
		return nil, nil, several
	}
	return nil, nil, none
}

// managed yields the identities of the node, each once. The caller must hold c.mu.
func (c *Cloud) managed() iter.Seq2[*tenant, *Identity] {
	return func(yield func(*tenant, *Identity) bool) {
		for name, t := range c.tenants {
			if name != t.id {
				continue // a domain of the tenant
			}
			for _, id := range t.identities {
				if id.Managed && !yield(t, id) {
					return
				}
			}
		}
	}
}
