package keyvault_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func assigned() volume.Principal {
	return volume.Principal{ClientID: assignedID, ObjectID: objectID, ResourceID: strings.ToLower(resourceID)}
}

// permits allows one identity, and names any other in its error.
func permits(clientID string) volume.Permit {
	return func(who volume.Principal) error {
		if who.ClientID != clientID {
			return volume.Errorf(volume.ErrDenied, "not %s", who.ClientID)
		}
		return nil
	}
}

func permitted(r volume.Request, permit volume.Permit) volume.Request {
	r.Permit = permit
	return r
}

// The policy sees the identity that answers before the vault is asked, however the pod names it.
func TestPermitSeesTheIdentityThatAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request volume.Request
		file    string
		alone   bool // the node has no identity of its own
		want    volume.Principal
	}{
		"client id":             {request: managed(byClient), want: assigned()},
		"object id":             {request: managed(byObject), want: assigned()},
		"resource id":           {request: managed(byResource), want: assigned()},
		"no id, the only one":   {request: managed(byNone), alone: true, want: assigned()},
		"no id":                 {request: managed(byNone), want: volume.Principal{ClientID: ownID, ObjectID: objectID[:35] + "b", ResourceID: "/subscriptions/s/vm"}},
		"cluster, no id":        {request: cluster(), file: `{"useManagedIdentityExtension":true}`, alone: true, want: assigned()},
		"cluster, by client id": {request: cluster(), file: `{"useManagedIdentityExtension":true,"userAssignedIdentityID":"` + assignedID + `"}`, want: assigned()},
		"cluster, with a secret": {request: cluster(), file: `{"aadClientId":"` + strings.ToUpper(clientID) + `","aadClientSecret":"` + clientSecret + `"}`,
			want: volume.Principal{ClientID: clientID}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newCluster(t, files{clusterFile: test.file})
			w.must(w.AddIdentity(devcloud.Identity{
				Tenant: tenantID, ClientID: ownID, ObjectID: objectID[:35] + "b", ResourceID: "/subscriptions/s/VM", Managed: true, SystemAssigned: true,
			}))
			if test.alone {
				w.RemoveIdentity(tenantID, ownID)
			}
			var got []volume.Principal
			refuse := func(who volume.Principal) error {
				got = append(got, who)
				return volume.Errorf(volume.ErrDenied, "not today")
			}
			w.fails(permitted(test.request, refuse), volume.ErrDenied, "not today")
			if len(got) != 1 || got[0] != test.want {
				t.Errorf("the policy was asked for %+v, want once for %+v", got, test.want)
			}
			if n := w.Count(devcloud.CountKey{Service: devcloud.ServiceVault}); n != 0 {
				t.Errorf("the vault was asked %d times", n)
			}
			for range 2 {
				if got := w.fetch(permitted(test.request, permits(test.want.ClientID)))["a"]; got != "value of a" {
					t.Errorf("got %q", got)
				}
			}
			if requests := asked(w); len(requests) > 1 {
				t.Errorf("the metadata service was asked %d times", len(requests))
			}
		})
	}
}

// An identity that the policy does not permit now gets no value from memory, fresh or last known, even in an outage.
func TestPermitGuardsTheCache(t *testing.T) {
	t.Parallel()
	w := newVM(t, func(o *keyvault.Options) { o.MountMaxAge, o.LastKnownGood = time.Hour, 24*time.Hour })
	ask := managed(byClient)
	w.fetch(first("one", permitted(ask, permits(assignedID)))) // this volume keeps the login
	w.fails(permitted(ask, permits(ownID)), volume.ErrDenied, "not "+assignedID)
	w.inject(devcloud.Fault{Action: devcloud.Fail, Status: http.StatusServiceUnavailable})
	for range 3 { // until the token has expired too
		w.later(50 * time.Minute)
		w.fails(permitted(ask, permits(ownID)), volume.ErrDenied, "not "+assignedID)
		if got := w.fetch(permitted(ask, permits(assignedID)))["a"]; got != "value of a" {
			t.Errorf("got %q", got)
		}
	}
}

// If another identity answers than before, the policy checks that one. It does not get what the first has read.
func TestAnotherIdentityAnswers(t *testing.T) {
	t.Parallel()
	for name, lasts := range map[string]time.Duration{"when the token has ended": 2 * time.Hour, "when the token is due": 57 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newVM(t, func(o *keyvault.Options) { o.MountMaxAge = 24 * time.Hour })
			w.vault.Grant(ownID)
			w.RemoveIdentity(tenantID, ownID)
			ask := managed(byNone)
			w.fetch(permitted(ask, permits(assignedID)))
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: ownID, Managed: true, SystemAssigned: true}))
			w.later(lasts)
			other := permitted(ask, permits(assignedID))
			other.Objects = []volume.Object{secret("b")} // not in memory, so that the service is asked
			w.vault.SetSecret("b", "value of b", devcloud.SecretOptions{})

			// Soon no request is served as the first identity, and the other, which is not permitted, reads no value.
			deadline := time.Now().Add(suite.Patience)
			for {
				_, err := w.client.Fetch(t.Context(), other)
				if errors.Is(err, volume.ErrDenied) && err.Error() == "not "+ownID {
					break
				}
				if err != nil && (!errors.Is(err, volume.ErrUnavailable) || !strings.HasSuffix(err.Error(),
					": the identities of the node have changed, another identity answers than before; it is asked anew at the next try")) {
					t.Fatal(err)
				}
				if time.Now().After(deadline) {
					t.Fatalf("the second identity never answers: %v", err)
				}
				w.later(time.Minute)
			}
			for _, r := range w.Requests() {
				if r.Service == devcloud.ServiceVault && r.ClientID == ownID {
					t.Errorf("the vault was asked for %s as an identity that is not permitted", r.Path)
				}
			}
			w.fails(permitted(ask, permits(assignedID)), volume.ErrDenied, "not "+ownID)
			before := w.Count(devcloud.CountKey{Service: devcloud.ServiceVault})
			w.fetch(permitted(ask, permits(ownID)))
			if w.Count(devcloud.CountKey{Service: devcloud.ServiceVault}) == before {
				t.Error("the second identity was given what the first has read")
			}
		})
	}
}

// A vault refuses the token, and another identity answers the new login. The fetch that was permitted for the first
// one does not continue as the second.
func TestAnotherIdentityAnswersAfterARefusal(t *testing.T) {
	t.Parallel()
	w := newVM(t)
	w.vault.Grant(ownID)
	w.RemoveIdentity(tenantID, ownID)
	ask := permitted(managed(byNone), permits(assignedID))
	w.fetch(ask)
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: ownID, Managed: true, SystemAssigned: true}))
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Fail, Status: http.StatusUnauthorized, Times: 1})
	w.fails(ask, volume.ErrUnavailable, asManaged+": the identities of the node have changed, another identity answers than before; it is asked anew at the next try")
	for _, r := range w.Requests() {
		if r.Service == devcloud.ServiceVault && r.ClientID == ownID {
			t.Errorf("the vault was asked for %s as an identity that is not permitted", r.Path)
		}
	}
	w.fails(ask, volume.ErrDenied, "not "+ownID)
}
