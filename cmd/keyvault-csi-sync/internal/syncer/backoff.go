package syncer

import (
	"math/rand/v2"
	"time"
)

// backoff is a pause that doubles with each failure. Its zero value begins with the shortest pause.
type backoff struct {
	pause time.Duration
}

const (
	shortestPause = time.Second
	// A Secret that the API server refuses needs somebody to change something.
	longestPause = 5 * time.Minute
	// An API server that is away comes back by itself.
	longestAway = 30 * time.Second
	// lasting is the pause of a watch that has failed four times. Fewer failures are not logged: every watch ends now and then, and an
	// API server may restart.
	lasting = 8 * time.Second
	// calm is the time without interference after which a Secret counts as undisturbed.
	calm = 10 * time.Minute
)

// next returns the next pause, up to half of it longer or shorter: the pods of a thousand namespaces must not come back together.
func (b *backoff) next(longest time.Duration) time.Duration {
	b.pause = min(max(2*b.pause, shortestPause), longest)
	return b.pause/2 + rand.N(b.pause) //nolint:gosec // G404: a pause is no secret
}

func (b *backoff) reset() { b.pause = 0 }
