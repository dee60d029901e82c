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

// valueBytes is the size of the values here: so much more than an entry that the two cannot be mistaken.
const valueBytes = 20_000

// values is how many of them the client has in memory after it has tidied up.
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

// refreshes gives what a refresh costs.
func (w *fixture) refreshes(id string, r volume.Request) (requests int) {
	w.t.Helper()
	w.ResetCounts()
	w.fetch(refresh(id, r))
	return w.gets()
}

// A value stays as long as a refresh of the volumes that share it may have it, and no longer.
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

// The volumes that share a value are refreshed with one request, also those that were mounted before a restart; with the
// last of them the value goes.
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

// A pinned version is never fetched again for a volume that has it; it stays as long as the volume.
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
	w.later(10 * time.Second) // which a first mount may have
	if n := w.values(); n != 0 {
		t.Errorf("%d values when the volume has gone", n)
	}
}

// What an outage may be bridged with stays as long as it may be.
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

// A refresh of which one object fails is made again without a request for the others.
func TestARefreshThatFailsInPartIsNotForgotten(t *testing.T) {
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
