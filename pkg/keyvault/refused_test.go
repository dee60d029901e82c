package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The vault requires a new token (continuous access evaluation), and Entra ID refuses the login: no value may be
// served.
func TestALoginRefusedInsideARead(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour))
	for _, n := range []string{"a", "b", "c"} {
		w.vault.SetSecret(n, "x", devcloud.SecretOptions{})
	}
	w.fetch(first("one", w.asServicePrincipal(secret("a"), secret("b"))))
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID}))
	w.inject(devcloud.Fault{Action: devcloud.Challenge, Service: devcloud.ServiceVault, Text: `Bearer error="insufficient_claims", claims="e30="`})
	// The value of a is in memory, and is served until the vault is asked for c.
	for _, pod := range []struct{ id, name string }{{"two", "c"}, {"three", "a"}} {
		_, err := w.client.Fetch(t.Context(), first(pod.id, w.asServicePrincipal(secret(pod.name))))
		if !errors.Is(err, volume.ErrUnauthenticated) {
			t.Errorf("%s: %v, want that the login is refused", pod.name, err)
		}
	}
}

// The second pod proves itself before it is served: that does not count as a hit.
func TestAHitIsCountedOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newFixture(t, maxAge(time.Hour), func(o *keyvault.Options) { o.Metrics = registry })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	w.fetch(first("two", w.pod("2", secret("a"))))
	for _, line := range scrape(t, registry) {
		if strings.HasPrefix(line, "cache_requests_total") && strings.Contains(line, "hit") && !strings.HasSuffix(line, " 1") {
			t.Errorf("%s, want 1: one object of one volume", line)
		}
	}
}

// A call that times out before any request names the vault, for which it would have waited.
func TestTimeoutAtTheVault(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.client.Fetch(ctx, w.asServicePrincipal(secret("a")))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "waiting for the vault:") {
		t.Errorf("%v, want that it waited for the vault", err)
	}
}

// A pod that proves itself does not wait for a vault that is throttled for longer than its deadline.
func TestAProofAtAThrottledVault(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.inject(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceVault, RetryAfter: 60 * time.Second})
	_, err := w.client.Fetch(timeLeft{t.Context(), 50 * time.Second}, w.pod("1", secret("a"))) // less than Retry-After
	if !errors.Is(err, volume.ErrUnavailable) || !strings.Contains(err.Error(), "HTTP 429") {
		t.Errorf("%v, want the vault's 429 before the end of time", err)
	}
}

// While the renewal of a good token is throttled, no read fails.
func TestReadsDuringAThrottledRenewal(t *testing.T) {
	t.Parallel()
	const volumes, rounds = 32, 20
	w := newFixture(t)
	for i := range volumes {
		w.vault.SetSecret(fmt.Sprint("s", i), "x", devcloud.SecretOptions{})
	}
	w.fetch(first("one", w.asServicePrincipal(secret("s0"))))
	w.later(57 * time.Minute)
	w.inject(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceLogin, RetryAfter: 3000 * time.Second})
	var readers sync.WaitGroup
	for i := range volumes {
		readers.Go(func() {
			r := first(fmt.Sprint("v", i), w.asServicePrincipal(secret(fmt.Sprint("s", i))))
			for range rounds {
				if _, err := w.client.Fetch(t.Context(), r); err != nil {
					t.Errorf("volume %d: %v", i, err)
				}
			}
		})
	}
	readers.Wait()
}

// An outage does not extend the time for which a value is kept.
func TestAnOutageExtendsNoRetention(t *testing.T) {
	t.Parallel()
	w := newFixtureOfValues(t, "a")
	r := w.asServicePrincipal(secret("a"))
	w.fetch(first("one", r))
	w.inject(devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceVault, Status: 500})
	for range 10 { // each takes a second, for the SDK's own attempts
		w.later(2 * time.Minute)
		_, _ = w.client.Fetch(t.Context(), refresh("one", r))
	}
	if n := w.values(); n != 0 {
		t.Errorf("%d values twenty minutes old, of a volume with an interval of %v", n, interval)
	}
}
