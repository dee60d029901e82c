package keyvault_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// valueBytes is the size of the values here: so much more than an entry that the two cannot be mistaken.
const valueBytes = 20_000

// values is how many of them the client has in memory after it has tidied up.
func (w *world) values() int {
	w.client.Tidy()
	return w.client.Cached() / valueBytes
}

func newWorldOfValues(t *testing.T, names ...string) *world {
	t.Helper()
	w := newWorld(t, maxAge(10*time.Second))
	for _, name := range names {
		w.vault.SetSecret(name, strings.Repeat("x", valueBytes), devcloud.SecretOptions{})
	}
	return w
}

// refreshes gives what a refresh costs.
func (w *world) refreshes(id string, r volume.Request) (requests int) {
	w.t.Helper()
	w.ResetCounts()
	w.fetch(refresh(id, r))
	return w.gets()
}

// The value of a volume that shares it with nobody is gone when no first mount may have it any more.
func TestAValueThatNobodyCanHaveIsGone(t *testing.T) {
	t.Parallel()
	w := newWorldOfValues(t, "a", "b")
	r := w.asServicePrincipal(secret("a"), secret("b"))
	w.fetch(first("one", r))
	w.later(9 * time.Second)
	if n := w.values(); n != 2 {
		t.Errorf("%d values after 9s, which a first mount may have", n)
	}
	w.later(time.Second)
	if n := w.values(); n != 0 {
		t.Errorf("%d values after 10s", n)
	}
	for range 2 {
		w.later(interval + time.Minute)
		if n := w.refreshes("one", r); n != 2 {
			t.Errorf("%d requests of a refresh, want 2", n)
		}
		w.later(10 * time.Second)
		if n := w.values(); n != 0 {
			t.Errorf("%d values 10s after a refresh", n)
		}
	}
	w.client.Forget("one")
	w.later(2 * time.Minute)
	if w.client.Tidy(); w.client.Cached() != 0 {
		t.Errorf("%d bytes after the last volume has gone", w.client.Cached())
	}
}

// A value stays until each of the volumes that share it has it, or until the interval is over.
func TestAValueStaysForThoseThatShareIt(t *testing.T) {
	t.Parallel()
	w := newWorldOfValues(t, "a")
	r := w.asServicePrincipal(secret("a"))
	for _, id := range []string{"one", "two", "three"} {
		w.fetch(first(id, r))
	}
	w.later(interval + time.Minute)
	for i, id := range []string{"one", "two", "three"} {
		if n := w.refreshes(id, r); (n == 1) != (i == 0) {
			t.Errorf("%d requests for volume %s", n, id)
		}
		w.later(20 * time.Second)
		if n := w.values(); (n == 1) != (i < 2) {
			t.Errorf("%d values when %d of 3 volumes have it", n, i+1)
		}
	}
	w.later(interval)
	w.refreshes("one", r)
	w.later(interval - time.Second)
	if n := w.values(); n != 1 {
		t.Errorf("%d values inside the interval", n)
	}
	w.later(time.Second)
	if n := w.values(); n != 0 {
		t.Errorf("%d values after it", n)
	}
	w.refreshes("two", r)
	w.client.Forget("one")
	w.client.Forget("three")
	w.later(10 * time.Second)
	if n := w.values(); n != 0 {
		t.Errorf("%d values when the others have gone", n)
	}
}

// A driver that has been restarted does not know which volumes share a value. The first to come shows that there are some.
func TestAValueStaysForVolumesOfBefore(t *testing.T) {
	t.Parallel()
	w := newWorldOfValues(t, "a")
	r := w.asServicePrincipal(secret("a"))
	for i, id := range []string{"one", "two", "three"} {
		if n := w.refreshes(id, r); (n == 1) != (i == 0) {
			t.Errorf("%d requests for volume %s", n, id)
		}
		w.later(30 * time.Second)
		w.client.Tidy()
	}
	w.later(interval)
	w.refreshes("one", r)
	w.refreshes("two", r)
	w.refreshes("three", r)
	w.later(10 * time.Second)
	if n := w.values(); n != 0 {
		t.Errorf("%d values when all are known and have it", n)
	}
}

// A pinned version is never fetched again for a volume that has it; it stays as long as the volume.
func TestAPinnedVersionStays(t *testing.T) {
	t.Parallel()
	w := newWorldOfValues(t)
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
	if n := w.values(); n != 0 {
		t.Errorf("%d values when the volume has gone", n)
	}
}

// What an outage may be bridged with stays as long as it may be.
func TestTheLastKnownValueStays(t *testing.T) {
	t.Parallel()
	w := newWorldOfValues(t, "a")
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
	w := newWorldOfValues(t, "a", "b")
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
