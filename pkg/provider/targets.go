package provider

import (
	"crypto/sha256"
	"sync"
	"time"
)

// forgetAfter is the time without a call after which a volume counts as gone: five polls of the Secrets Store CSI Driver.
// Without polls it takes the volumes of running pods too; they have then no expiry metrics, and a later pod of the same
// identity has to prove itself again.
const forgetAfter = 10 * time.Minute

// targets remembers the calls for each target. The Secrets Store CSI Driver does not call when a volume is unmounted, and from
// 1.6 on a poll does not say that the volume has files already.
type targets struct {
	now func() time.Time

	mu    sync.Mutex
	known map[string]target
}

// target is what is known of a volume.
type target struct {
	seen     time.Time         // the last call
	answered bool              // a call had files for an answer
	failure  [sha256.Size]byte // the digest of the last call's error; zero if there was none
	lacks    [sha256.Size]byte // the digest of what the last answer lacked; zero if it was whole
}

// see notes a call, and returns what was known before.
func (t *targets) see(path string) (before target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.known[path]
	now := before
	now.seen = t.now()
	t.known[path] = now
	return before
}

// answered notes that a call had files for an answer, and what they lacked.
func (t *targets) answered(path string, lacks [sha256.Size]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known[path] = target{seen: t.now(), answered: true, lacks: lacks}
}

// fail notes that a call failed, and reports whether the call before failed with the same text.
func (t *targets) fail(path, text string) (repeated bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, known := t.known[path]
	if !known { // the call was refused before it was seen
		return false
	}
	before := now.failure
	now.failure = sha256.Sum256([]byte(text))
	t.known[path] = now
	return now.failure == before
}

// tidy calls forget for the volumes that are gone. A call for one of them waits, so that what it holds is not forgotten.
func (t *targets) tidy(forget func(volumeID string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for path, target := range t.known {
		if now.Sub(target.seen) >= forgetAfter {
			delete(t.known, path)
			forget(volumeOf(path))
		}
	}
}

// volumeOf cannot be the kubelet's id of a volume: those begin with csi-.
func volumeOf(path string) string { return "secrets-store:" + path }
