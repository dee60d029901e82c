package keyvault_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Volumes that each have an identity of their own fill no memory, and nobody loses his login by those that are refused.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	const many, atOnce, most = 1200, 16, 1024
	var group sync.WaitGroup
	for worker := range atOnce {
		group.Go(func() {
			for i := worker; i < many; i += atOnce {
				r := w.asServicePrincipal(secret("a"))
				r.Identity.ClientSecret = volume.NewSecret(fmt.Append(nil, "wrong ", i))
				if _, err := w.client.Fetch(t.Context(), r); err == nil {
					t.Error("no error")
				}
			}
		})
	}
	group.Wait()
	if logins, sessions, _ := w.client.Known(); logins > most || sessions > most {
		t.Errorf("%d logins and %d clients of vaults are kept, want at most %d", logins, sessions, most)
	}
	w.ResetCounts()
	w.fetch(w.asServicePrincipal(secret("a")))
	if got := w.requests()["login token OK"]; got != 0 {
		t.Errorf("%d logins of one that had a token", got)
	}
}

// A client of a vault goes three minutes after it was used last, and not with the login, which other vaults may use: a pod
// can name any number of vaults.
func TestAClientOfAVaultGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	other := secret("a")
	other.Vault = "https://other.vault.azure.net"
	w.addVault("other", tenantID).SetSecret("a", "x", devcloud.SecretOptions{})
	_, err := w.client.Fetch(t.Context(), w.asServicePrincipal(other)) // which has no right there
	if err == nil {
		t.Fatal("no error")
	}
	w.fetch(first("one", w.asServicePrincipal(secret("a"))))
	w.knows("at once", 1, 2, 0)
	w.later(2 * time.Minute)
	w.fetch(first("two", w.asServicePrincipal(secret("a"))))
	w.later(2 * time.Minute)
	w.knows("after four minutes", 1, 1, 0)
}
