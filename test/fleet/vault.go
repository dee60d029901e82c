package fleet

import (
	"cmp"
	"math"
	"sync"
	"time"
)

// Window is the length in which a vault counts requests. Limit is how many it answers in each. It refuses the rest with 429, and refused
// requests do not count.
const (
	Window = 10 * time.Second
	Limit  = 4000
	// SubscriptionLimit is for all vaults of a subscription.
	SubscriptionLimit = 5 * Limit
)

// Vault counts requests as Key Vault does. The windows are aligned, which is an assumption: Microsoft does not publish how they begin.
type Vault struct {
	Began      time.Time
	RetryAfter bool // answer 429 with the time that is left in the window
	// Others is the largest share of the limit that other clients use; their use changes over an hour.
	Others float64
	// Limit is how many requests it answers in a window; 0 means [Limit].
	Limit int
	// Subscription is how many requests the other vaults of the subscription use in a window.
	Subscription int

	mu      sync.Mutex
	windows []Count
}

// Count is what happened in one window.
type Count struct{ Good, Refused, Limit int }

// Take counts a request at a time, and reports whether it is answered. after is the Retry-After of a refusal; 0 means none.
func (v *Vault) Take(now time.Time) (ok bool, after time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := now.Sub(v.Began)
	n := int(at / Window)
	for len(v.windows) <= n {
		v.windows = append(v.windows, Count{Limit: v.limit(len(v.windows))})
	}
	w := &v.windows[n]
	if w.Good < w.Limit {
		w.Good++
		return true, 0
	}
	w.Refused++
	if v.RetryAfter {
		left := Window - at%Window
		after = (left + time.Second - 1).Truncate(time.Second)
	}
	return false, after
}

// limit is what a window has for the fleet.
func (v *Vault) limit(window int) int {
	hour := float64(time.Hour / Window)
	use := v.Others * (1 - math.Cos(2*math.Pi*float64(window)/hour)) / 2
	own := int(float64(cmp.Or(v.Limit, Limit)) * (1 - use))
	return max(0, min(own, SubscriptionLimit-v.Subscription))
}

// Counts returns the windows in [from, to).
func (v *Vault) Counts(from, to time.Duration) (sum Count) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n := int(from / Window); n < int(to/Window); n++ {
		w := Count{Limit: v.limit(n)}
		if n < len(v.windows) {
			w = v.windows[n]
		}
		sum.Good, sum.Refused, sum.Limit = sum.Good+w.Good, sum.Refused+w.Refused, sum.Limit+w.Limit
	}
	return sum
}
