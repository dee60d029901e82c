package keyvault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// knows checks the number of logins and pods that the client keeps after Tidy.
func (w *fixture) knows(when string, logins, pods int) {
	w.t.Helper()
	w.client.Tidy()
	if l, p := w.client.Known(); l != logins || p != pods {
		w.t.Errorf("%s: %d logins, %d pods; want %d, %d", when, l, p, logins, pods)
	}
}

// A login is dropped three minutes after its last use once the last volume of its identity is gone.
func TestALoginIsDroppedAfterItsVolumes(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]func(*fixture) volume.Request{
		"workload":         func(w *fixture) volume.Request { return w.pod("1", secret("a")) },
		"servicePrincipal": func(w *fixture) volume.Request { return w.asServicePrincipal(secret("a")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
			pods := 0
			if name == "workload" {
				pods = 1
			}
			r := as(w)
			w.fetch(first("one", r))
			w.later(40 * time.Minute)
			w.knows("while a volume is there", 1, pods)
			w.fetch(refresh("one", r))
			w.client.Forget("one")
			w.knows("just after", 1, 0)
			w.later(3*time.Minute - time.Second)
			w.knows("three minutes later, nearly", 1, 0)
			w.ResetCounts()
			w.fetch(first("two", r)) // a Job that starts every few minutes
			if n := w.logins(); n != pods {
				t.Errorf("%d logins of the next volume, want %d", n, pods)
			}
			w.client.Forget("two")
			w.later(3*time.Minute + time.Second)
			w.knows("three minutes later", 0, 0)
		})
	}
}

// Pods that were refused or could not mount are dropped too. So is a login without use, even if there are volumes.
func TestIdleLoginsAreDropped(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	if _, err := w.client.Fetch(t.Context(), first("two", forged(w.pod("2", secret("a"))))); err == nil {
		t.Error("a forged token is served")
	}
	if _, err := w.client.Fetch(t.Context(), first("three", w.pod("3", secret("nothing")))); err == nil {
		t.Error("an absent secret is served")
	}
	w.client.Forget("two")
	w.client.Forget("three")
	w.knows("at first", 1, 3)
	w.later(3*time.Minute + time.Second)
	w.knows("with the failed pods forgotten", 1, 1)
	w.later(time.Hour - 3*time.Minute)
	w.knows("after an hour without a use", 0, 0)
}

// A refusal by Entra ID concerns the login at every vault. A refusal by a vault concerns that vault alone.
func TestARefusalRemovesOnlyItsOwnValues(t *testing.T) {
	t.Parallel()
	const tokenLife = 80 * time.Minute
	for _, test := range []struct {
		name   string
		named  bool // the pod names the tenant of the values that stay
		refuse func(*fixture)
		left   []string // of the vaults that the identity has read
	}{
		{"a login that Entra ID refuses", false, func(w *fixture) {
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID}))
		}, []string{"https://far.vault.azure.net"}},
		{"the same, known by the name of the tenant too", true, func(w *fixture) {
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID}))
		}, []string{"https://far.vault.azure.net"}},
		{"a token that a vault refuses", false, func(w *fixture) {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Host: "shop", Action: devcloud.Fail, Status: 401})
		}, []string{"https://far.vault.azure.net", "https://near.vault.azure.net"}},
		{"nothing", false, func(*fixture) {}, []string{"https://far.vault.azure.net", "https://near.vault.azure.net", "https://shop.vault.azure.net"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, func(o *keyvault.Options) { o.LastKnownGood = 24 * time.Hour })
			w.must(w.AddIdentity(devcloud.Identity{Tenant: otherTenantID, ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: clientSecret}}}))
			vaults := map[string]*devcloud.Vault{
				w.vault.URL():                  w.vault,
				"https://near.vault.azure.net": w.addVault("near", tenantID),
				"https://far.vault.azure.net":  w.addVault("far", otherTenantID),
			}
			of := func(vault string) volume.Request {
				object := secret("a")
				object.Vault = vault
				r := w.asServicePrincipal(object)
				if test.named && vault == "https://near.vault.azure.net" {
					r.Identity.TenantID = tenantID
				}
				return r
			}
			for url, vault := range vaults {
				vault.Grant(clientID)
				vault.SetSecret("a", "x", devcloud.SecretOptions{})
				w.fetch(of(url))
			}
			w.later(tokenLife)
			test.refuse(w)
			if _, err := w.client.Fetch(t.Context(), of(w.vault.URL())); (err != nil) != (len(test.left) < 3) {
				t.Fatal(err)
			}
			w.inject(devcloud.Fault{Service: devcloud.ServiceLogin, Action: devcloud.Reset})
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
			w.later(time.Minute)
			for url := range vaults {
				want := false
				for _, left := range test.left {
					want = want || left == url
				}
				content, err := w.client.Fetch(t.Context(), of(url))
				if want != (err == nil) || !want && !errors.Is(err, volume.ErrUnavailable) {
					t.Errorf("%s in an outage: %d files, %v", url, len(content.Files), err)
				}
			}
		})
	}
}
