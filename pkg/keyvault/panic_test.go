package keyvault_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A panic in any goroutine during a fetch is the error of one object. The process and the next fetch continue.
func TestAPanicWhileWaiting(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	w := newFixture(t, func(o *keyvault.Options) {
		o.LastKnownGood = time.Hour
		o.After = func(d time.Duration) <-chan time.Time {
			if broken.Load() {
				panic("the secret")
			}
			return time.After(d)
		}
	})
	w.vault.SetSecret("a", "1", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	broken.Store(true)
	stop := w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Hang})
	w.fails(w.asServicePrincipal(secret("a")), volume.ErrUnavailable,
		asSP+`the vault gave a strange answer, the Azure SDK failed on it; check what answers under its name`)
	if n := w.client.Waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
	stop()
	broken.Store(false)
	if got := w.fetch(w.asServicePrincipal(secret("a")))["a"]; got != "1" {
		t.Errorf("afterwards %q", got)
	}
}
