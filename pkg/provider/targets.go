package provider

import (
	"sync"
	"time"
)

// forgetAfter is the time without a call after which a volume counts as gone: five polls of the Secrets Store CSI Driver.
// Without polls it takes the volumes of running pods too; they have then no expiry metrics, and a later pod of the same
// identity has to prove itself again.
const forgetAfter = 10 * time.Minute

// targets remembers when each target was seen last, because the Secrets Store CSI Driver does not call when a volume is
// unmounted.
type targets struct {
	now func() time.Time

	mu   sync.Mutex
	seen map[string]time.Time
}

// see returns the id of the volume at a target.
func (t *targets) see(target string) (volumeID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[target] = t.now()
	return volumeOf(target)
}

// tidy calls forget for the volumes that are gone. A call for one of them waits, so that what it holds is not forgotten.
func (t *targets) tidy(forget func(volumeID string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for target, seen := range t.seen {
		if now.Sub(seen) >= forgetAfter {
			delete(t.seen, target)
			forget(volumeOf(target))
		}
	}
}

// volumeOf cannot be the kubelet's id of a volume: those begin with csi-.
func volumeOf(target string) string { return "secrets-store:" + target }
