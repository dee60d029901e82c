package keyvault_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Volumes with an identity each do not fill the memory, and refused logins do not evict one that has a token.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
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
	if logins, _ := w.client.Known(); logins > most {
		t.Errorf("%d logins are kept, want at most %d", logins, most)
	}
	w.ResetCounts()
	w.fetch(w.asServicePrincipal(secret("a")))
	if got := w.requests()["login token OK"]; got != 0 {
		t.Errorf("%d logins of one that had a token", got)
	}
}
