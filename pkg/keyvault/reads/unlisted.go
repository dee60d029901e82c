package reads

import (
	"maps"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
)

// listAgain is how long nothing is listed after a list that was refused, too long to be worth it, or saved less than it cost.
const listAgain = time.Hour

// unlisted are the lists that are of no use at present, by identity, vault and interface.
type unlisted struct {
	mu    sync.Mutex
	since map[cache.Key]time.Time
}

func newUnlisted() *unlisted { return &unlisted{since: map[cache.Key]time.Time{}} }

// allows reports whether a list may be tried.
func (u *unlisted) allows(key cache.Key, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	since, known := u.since[key]
	return !known || now.Sub(since).Abs() >= listAgain
}

// add records that a list was of no use. news is false if that was known.
func (u *unlisted) add(key cache.Key, now time.Time) (news bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, known := u.since[key]
	u.since[key] = now
	return !known
}

// remove records that a list has saved what it cost.
func (u *unlisted) remove(key cache.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.since, key)
}

// tidy forgets what was not tried again for a while: its volumes are gone.
func (u *unlisted) tidy(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.since, func(_ cache.Key, since time.Time) bool { return now.Sub(since).Abs() >= 2*listAgain })
}
