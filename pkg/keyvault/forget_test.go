package keyvault_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// valueBytes is the size of the values here: so much larger than an entry's overhead that entries can be counted by
// size.
const valueBytes = 20_000

// values is the number of values in memory after Tidy.
func (w *fixture) values() int {
	w.client.Tidy()
	return w.client.Cached() / valueBytes
}

func newFixtureOfValues(t *testing.T, names ...string) *fixture {
	t.Helper()
	w := newFixture(t, maxAge(10*time.Second))
	for _, name := range names {
		w.vault.SetSecret(name, strings.Repeat("x", valueBytes), devcloud.SecretOptions{})
	}
	return w
}

// refreshes returns the number of requests of a refresh.
func (w *fixture) refreshes(id string, r volume.Request) (requests int) {
	w.t.Helper()
	w.ResetCounts()
	w.fetch(refresh(id, r))
	return w.gets()
}

// A value stays as long as a refresh of its volumes may use it, and no longer.
func TestAValueStaysForItsInterval(t *testing.T) {
	t.Parallel()
	w := newFixtureOfValues(t, "a", "b")
	r := w.asServicePrincipal(secret("a"), secret("b"))
	w.fetch(first("one", r))
	for range 3 {
		w.later(interval + time.Minute)
		if n := w.refreshes("one", r); n != 2 {
			t.Errorf("%d requests of a refresh, want 2", n)
		}
		if n := w.values(); n != 2 {
			t.Errorf("%d values after a refresh", n)
		}
	}
	w.later(interval + cache.CallTime - time.Second)
	if n := w.values(); n != 2 {
		t.Errorf("%d values before the interval is over", n)
	}
	w.later(time.Second)
	if n := w.values(); n != 0 {
		t.Errorf("%d values after the interval", n)
	}
}

// The volumes that share a value are refreshed with one request, including those from before a restart. The value is
// dropped with the last of them.
func TestAValueIsShared(t *testing.T) {
	t.Parallel()
	for name, restarted := range map[string]bool{"mounted": false, "mounted before a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixtureOfValues(t, "a")
			r := w.asServicePrincipal(secret("a"))
			volumes := []string{"one", "two", "three"}
			for _, id := range volumes {
				if !restarted {
					w.fetch(first(id, r))
				}
			}
			for range 2 {
				w.later(interval + time.Minute)
				for i, id := range volumes {
					if n := w.refreshes(id, r); (n == 1) != (i == 0) {
						t.Errorf("%d requests for volume %s", n, id)
					}
					w.later(20 * time.Second)
					w.client.Tidy()
				}
			}
			for i, id := range volumes {
				if n := w.values(); n != 1 {
					t.Errorf("%d values when %d volumes are left", n, len(volumes)-i)
				}
				w.client.Forget(id)
			}
			if n := w.values(); n != 0 {
				t.Errorf("%d values when all have gone", n)
			}
		})
	}
}

// A pinned version is never fetched again for a volume that has it. It stays as long as the volume.
func TestAPinnedVersionStays(t *testing.T) {
	t.Parallel()
	w := newFixtureOfValues(t)
	pinned := secret("p")
	pinned.Version = w.vault.SetSecret("p", strings.Repeat("x", valueBytes), devcloud.SecretOptions{})
	r := w.asServicePrincipal(pinned)
	w.fetch(first("one", r))
	for range 3 {
		w.later(interval + time.Minute)
		if n := w.values(); n != 1 {
			t.Errorf("%d values", n)
		}
		if n := w.refreshes("one", r); n != 0 {
			t.Errorf("%d requests", n)
		}
	}
	w.client.Forget("one")
	w.later(10 * time.Second) // a first mount may use it
	if n := w.values(); n != 0 {
		t.Errorf("%d values when the volume has gone", n)
	}
}

// A value that may be used in an outage stays as long as that is allowed.
func TestTheLastKnownValueStays(t *testing.T) {
	t.Parallel()
	w := newFixtureOfValues(t, "a")
	w.client = w.newClient(func(o *keyvault.Options) { o.LastKnownGood = time.Hour })
	w.fetch(first("one", w.asServicePrincipal(secret("a"))))
	w.client.Forget("one")
	w.later(59 * time.Minute)
	if n := w.values(); n != 1 {
		t.Errorf("%d values after 59 minutes of an hour", n)
	}
	w.later(time.Minute)
	if n := w.values(); n != 0 {
		t.Errorf("%d values after an hour", n)
	}
}

// If one object of a refresh fails, the retry does not request the others again.
func TestARetriedRefreshRequestsOnlyTheFailedObject(t *testing.T) {
	t.Parallel()
	w := newFixtureOfValues(t, "a", "b")
	r := w.asServicePrincipal(secret("a"), secret("b"))
	w.fetch(first("one", r))
	w.later(interval + time.Minute)
	stop := w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets/b", Action: devcloud.Fail, Status: 500})
	if _, err := w.client.Fetch(t.Context(), refresh("one", r)); err == nil {
		t.Fatal("no error")
	}
	stop()
	w.later(time.Minute)
	w.client.Tidy()
	if n := w.refreshes("one", r); n != 1 {
		t.Errorf("%d requests, want one for what has failed", n)
	}
}
