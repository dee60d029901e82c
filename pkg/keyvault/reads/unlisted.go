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
	known map[cache.Key]useless
}

// useless is a list that was of no use at that time.
type useless struct {
	at     time.Time
	reason string
}

func newUnlisted() *unlisted { return &unlisted{known: map[cache.Key]useless{}} }

// allows reports whether a list may be tried.
func (u *unlisted) allows(key cache.Key, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	last, known := u.known[key]
	return !known || now.Sub(last.at).Abs() >= listAgain
}

// add records why a list was of no use. news is false if that was known.
func (u *unlisted) add(key cache.Key, now time.Time, reason string) (news bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.known[key]
	u.known[key] = useless{now, reason}
	return last.reason != reason
}

// remove records that a list has saved what it cost.
func (u *unlisted) remove(key cache.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, key)
}

// tidy forgets what was not tried again for a while: its volumes are gone.
func (u *unlisted) tidy(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.known, func(_ cache.Key, last useless) bool { return now.Sub(last.at).Abs() >= 2*listAgain })
}
