package keyvault_test

import (
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// A connection that is used at each refresh is closed after five minutes, so that DNS is asked again: the vault may have moved behind a
// private endpoint.
func TestConnectionsAreRenewed(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.client.Tidy()
	for i, step := range []struct {
		later       time.Duration
		connections int
	}{{0, 1}, {2 * time.Minute, 1}, {2 * time.Minute, 1}, {time.Minute, 2}, {4 * time.Minute, 2}, {time.Minute, 3}} {
		w.later(step.later)
		w.client.Tidy()
		w.fetch(w.asServicePrincipal(secret("a")))
		if n := w.Count(devcloud.CountKey{Service: devcloud.ServiceProxy, Host: w.vault.Host()}); n != step.connections {
			t.Errorf("step %d: %d connections to the vault, want %d", i, n, step.connections)
		}
	}
}
