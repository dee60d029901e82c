package keyvault_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	ownID      = "44444444-0000-0000-0000-000000000001" // system-assigned
	assignedID = "44444444-0000-0000-0000-000000000002"
	objectID   = "44444444-0000-0000-0000-00000000000a" // of assignedID
	resourceID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"

	asManaged = `secrets[0]: secret "a" of https://shop.vault.azure.net as managed`
)

// newVM is a fixture whose node has a system-assigned identity and a user-assigned one.
func newVM(t *testing.T, change ...func(*keyvault.Options)) *fixture {
	t.Helper()
	w := newFixture(t, change...)
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: ownID, Managed: true, SystemAssigned: true}))
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: assignedID, ObjectID: objectID, ResourceID: resourceID, Managed: true}))
	w.vault.Grant(assignedID)
	w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
	w.client.DialMetadata(strings.TrimPrefix(w.IMDSURL(), "http://"))
	return w
}

func managed(change func(*volume.Identity)) volume.Request {
	id := volume.Identity{Kind: volume.Managed}
	change(&id)
	return request(id, []volume.Object{secret("a")})
}

func byNone(*volume.Identity)        {}
func byClient(id *volume.Identity)   { id.ClientID = assignedID }
func byObject(id *volume.Identity)   { id.ObjectID = objectID }
func byResource(id *volume.Identity) { id.ResourceID = resourceID }
func byStranger(id *volume.Identity) { id.ClientID = otherClientID }
func asked(w *fixture) []devcloud.Request {
	return slices.DeleteFunc(w.Requests(), func(r devcloud.Request) bool { return r.Service != devcloud.ServiceIMDS })
}

// Each way to name a managed identity sends the request that Azure documents, once for all fetches.
func TestManaged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*volume.Identity)
		query  []string
	}{
		"system-assigned": {byNone, []string{"api-version", "resource"}},
		"client id":       {byClient, []string{"api-version", "client_id", "resource"}},
		"object id":       {byObject, []string{"api-version", "object_id", "resource"}},
		"resource id":     {byResource, []string{"api-version", "msi_res_id", "resource"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newVM(t)
			w.vault.Grant(ownID)
			for range 3 {
				if got := w.fetch(managed(test.change))["a"]; got != "value of a" {
					t.Errorf("got %q", got)
				}
			}
			requests := asked(w)
			if len(requests) != 1 || !slices.Equal(requests[0].Query, test.query) || requests[0].Header.Get("Metadata") != "true" {
				t.Errorf("the metadata service was asked %+v, want once with %v", requests, test.query)
			}
		})
	}
}

// If the node has no system-assigned identity and only one user-assigned one, requests without an id get that one.
func TestTheOnlyAssignedIdentityAnswers(t *testing.T) {
	t.Parallel()
	w := newVM(t)
	w.RemoveIdentity(tenantID, ownID)
	if got := w.fetch(managed(byNone))["a"]; got != "value of a" {
		t.Errorf("got %q", got)
	}
}

// The environment cannot redirect requests to the metadata service: to no proxy, and to no other service.
func TestManagedIsNotHijacked(t *testing.T) {
	elsewhere := "http://127.0.0.1:1/elsewhere"
	for _, name := range []string{
		"HTTP_PROXY", "http_proxy", "ALL_PROXY", "IDENTITY_ENDPOINT", "MSI_ENDPOINT", "IMDS_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
		"IDENTITY_SERVER_THUMBPRINT", "IDENTITY_HEADER", "MSI_SECRET",
	} {
		t.Setenv(name, elsewhere)
	}
	var proxied []string
	w := newVM(t, func(o *keyvault.Options) {
		proxy := o.Proxy
		o.Proxy = func(r *http.Request) (*url.URL, error) {
			proxied = append(proxied, r.URL.Host)
			return proxy(r)
		}
	})
	w.fetch(managed(byClient))
	if len(asked(w)) != 1 || slices.Contains(proxied, "169.254.169.254") || len(proxied) == 0 {
		t.Errorf("asked %v; the proxy function was asked for %v", asked(w), proxied)
	}
}

// Errors of the service while it is updated or busy are retried after a short wait.
func TestManagedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newVM(t)
	w.run()
	w.fetch(w.asServicePrincipal(secret("a"))) // the cloud makes its keys
	for _, status := range []int{404, 410, 429, 500, 503} {
		w.ResetCounts()
		w.client = w.newClient()
		w.client.DialMetadata(strings.TrimPrefix(w.IMDSURL(), "http://"))
		w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Fail, Status: status, Times: 2})
		w.fetch(managed(byClient))
		if got := len(asked(w)); got != 3 {
			t.Errorf("status %d: %d requests, want 3", status, got)
		}
	}
}

func imdsRefuses(status int, code, description string) func(*fixture) {
	return func(w *fixture) {
		w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Malformed, Status: status,
			Text: fmt.Sprintf(`{"error":%q,"error_description":%q}`, code, description)})
	}
}

func TestManagedRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		change   func(*volume.Identity)
		prepare  func(*fixture)
		sentinel error
		text     string
	}{
		{"not granted", byNone, func(*fixture) {}, volume.ErrDenied, asManaged + `: HTTP 403 Forbidden, ForbiddenByPolicy: the identity may not do secrets/get; ` +
			`add it to the vault's access policy, or assign the role "Key Vault Secrets User"`},
		{"no such identity", byStranger, func(*fixture) {}, volume.ErrUnauthenticated, asManaged + " " + otherClientID +
			": the node's metadata service answered HTTP 400 invalid_request: the node has no such identity; assign it to the VM or its scale set"},
		{"no identity at all", byNone, func(w *fixture) {
			w.RemoveIdentity(tenantID, ownID)
			w.RemoveIdentity(tenantID, assignedID)
		}, volume.ErrUnauthenticated, asManaged + ": the node's metadata service answered HTTP 400 invalid_request: the node has no managed identity; " +
			"switch on its own (system-assigned), or assign one to the VM or its scale set"},
		{"none of its own and several assigned", byNone, func(w *fixture) {
			w.RemoveIdentity(tenantID, ownID)
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: otherClientID, Managed: true}))
		}, volume.ErrUnauthenticated, asManaged + ": the node's metadata service answered HTTP 400 invalid_request: " +
			"several identities are assigned to the node; name one by clientID, objectID or resourceID"},
		{"the vault is of another tenant", byObject, func(w *fixture) {
			w.RemoveIdentity(tenantID, assignedID)
			w.must(w.AddIdentity(devcloud.Identity{Tenant: otherTenantID, ClientID: assignedID, ObjectID: objectID, Managed: true}))
		}, volume.ErrUnauthenticated, asManaged + " " + objectID + ": HTTP 401 Unauthorized, AKV10032: the vault belongs to tenant " + tenantID +
			" and does not accept the identity; a managed identity is known in its own tenant alone"},
		{"Entra ID knows no vaults", byNone, imdsRefuses(400, "invalid_request", "AADSTS500011: The resource principal named https://vault.azure.net was not found in the tenant."),
			volume.ErrUnauthenticated, asManaged + ": the node's metadata service answered HTTP 400 invalid_request, AADSTS500011: it knows no vaults of AzurePublicCloud; check --cloud"},
		{"Entra ID refuses", byNone, imdsRefuses(400, "invalid_request", "AADSTS7000112: Application is disabled."),
			volume.ErrUnauthenticated, asManaged + ": the node's metadata service answered HTTP 400 invalid_request, AADSTS7000112: Entra ID refuses the identity; look the code up at https://login.microsoftonline.com/error"},
		{"Entra ID fails", byNone, imdsRefuses(400, "invalid_request", "AADSTS90033: A transient error has occurred. Please try again."),
			volume.ErrUnavailable, asManaged + ": the node's metadata service answered HTTP 400 invalid_request, AADSTS90033: the metadata service fails; tried again later"},
		{"something else answers", byNone, func(w *fixture) {
			w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Malformed, Status: 403, ContentType: "text/plain", Text: "a socket operation was attempted to an unreachable network"})
		}, volume.ErrUnavailable, asManaged + ": the node's metadata service answered HTTP 403: that is no answer of a metadata service; does something else answer at 169.254.169.254?"},
		{"it fails", byResource, func(w *fixture) {
			w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Fail, Status: 500})
		}, volume.ErrUnavailable, asManaged + " " + resourceID + ": the node's metadata service answered HTTP 500 temporarily_unavailable: the metadata service fails; tried again later"},
		{"nonsense", byNone, func(w *fixture) {
			w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Malformed})
		}, volume.ErrUnavailable, asManaged + ": the node's metadata service gave a strange answer, it cannot be understood; check what answers under its name"},
		{"nobody there", byNone, func(w *fixture) { w.client.DialMetadata("127.0.0.1:1") }, volume.ErrUnavailable, asManaged +
			": no answer from 169.254.169.254: connection refused; is this node a VM of Azure, whose metadata service its pods may reach?"},
		{"two ids", func(id *volume.Identity) { byClient(id); byObject(id) }, func(*fixture) {}, volume.ErrInvalid,
			"identity managed takes one of clientID, objectID and resourceID"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newVM(t)
			test.prepare(w)
			w.fails(managed(test.change), test.sentinel, test.text)
		})
	}
}
