package keyvault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A first mount that fails has not lost what it has read: its next attempt reads only the rest. Otherwise a volume that needs
// longer than its timeout, because its vault throttles, is never mounted.
func TestAnUnfinishedMountKeepsWhatItHasRead(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(10*time.Second))
	for _, object := range ten()[:9] {
		w.vault.SetSecret(object.Name, "x", devcloud.SecretOptions{})
	}
	for i, step := range []struct {
		name   string
		change func(*volume.Request)
		want   int // objects that are read
		err    error
	}{
		{"the first attempt", nil, 9, volume.ErrNotFound},
		{"the second attempt", nil, 0, volume.ErrNotFound},
		{"another identity", func(r *volume.Request) { r.Identity.ClientID = otherClientID }, 9, volume.ErrNotFound},
		{"another volume", func(r *volume.Request) { r.Volume = "other" }, 9, volume.ErrNotFound},
		{"after a leak", func(r *volume.Request) { r.NotBefore = w.now() }, 9, volume.ErrNotFound},
		{"the missing object is there", func(*volume.Request) { w.vault.SetSecret("s9", "x", devcloud.SecretOptions{}) }, 1, nil},
		{"it was mounted, so that this is another mount", nil, 10, nil},
	} {
		r := first("volume", w.asServicePrincipal(ten()...))
		if step.change != nil {
			step.change(&r)
		}
		w.ResetCounts()
		_, err := w.client.Fetch(t.Context(), r)
		if got := w.gets(); got != step.want || !errors.Is(err, step.err) {
			t.Errorf("step %d, %s: %d objects are read, want %d; %v, want %v", i, step.name, got, step.want, err, step.err)
		}
		w.later(30 * time.Second) // longer than a failure pauses, and than MountMaxAge
	}
}

// What an attempt has read serves the next ones for ten minutes at most, and a mount that was given up is forgotten.
func TestAMountThatIsTriedForLong(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(10*time.Second), func(o *keyvault.Options) { o.LastKnownGood = time.Hour }) // which retains the values
	w.vault.SetSecret("s0", "x", devcloud.SecretOptions{})
	for at, want := range []int{1, 0, 1, 0} {
		w.ResetCounts()
		if _, err := w.client.Fetch(t.Context(), first("volume", w.asServicePrincipal(secret("s0"), secret("none")))); !errors.Is(err, volume.ErrNotFound) {
			t.Fatal(err)
		}
		if got := w.gets(); got != want {
			t.Errorf("attempt %d: %d objects are read, want %d", at, got, want)
		}
		w.later(6 * time.Minute)
		w.client.Tidy()
	}
}
