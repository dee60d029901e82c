package azure

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Throttle limits the requests to one service and honours its Retry-After. A throttled vault counts the requests of
// all identities together, and refused requests load it too.
//
// It closes with the first 429, or another failure that has Retry-After. It stays closed until that time and some
// jitter have passed, so that the nodes of a cluster do not retry together. Then it allows one concurrent request,
// and one more with each request that the service has processed. To a vault that has answered 429 it also limits the rate,
// see pace.
type Throttle struct {
	service Service
	most    int
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time
	random  func() float64

	mu          sync.Mutex
	notBefore   time.Time
	reason      error         // the last answer that closed it
	reading     bool          // the body of that answer is not read yet: reason has its status only
	changed     chan struct{} // closed and replaced with each new reason
	epoch       int           // counts how often it closed: requests of one epoch count once
	consecutive int           // how often it closed since the last success
	limit       int           // of concurrent requests
	running     int
	left        chan struct{} // closed when a request has ended; nil if no request waits for that
	pace        pace
	line        line // of the requests that wait for the pace
}

// NewThrottle makes an open throttle of a service for at most that many concurrent requests. after is the timer of
// the clock now. random returns numbers in [0, 1) that keep nodes apart; nil means those of math/rand.
func NewThrottle(
	service Service, most int, now func() time.Time, after func(time.Duration) <-chan time.Time, random func() float64,
) *Throttle {
	if random == nil {
		random = rand.Float64
	}
	return &Throttle{
		service: service, now: now, after: after, random: random, most: most, limit: most,
		changed: make(chan struct{}), pace: pace{random: random},
	}
}

// Do makes one call as soon as the throttle allows it, and repeats it if it was throttled. The context of the call
// has the attempt. The error is the reduced error of the call, see [Reduce]; the reason of the throttle if it stays
// closed for longer than patience; or the error of ctx.
func (t *Throttle) Do(ctx context.Context, patience time.Duration, call func(context.Context) error) error {
	end := t.now().Add(patience)
	for reserved := ctx.Value(reservedKey{}) != nil; ; reserved = false {
		a, err := t.enter(ctx, end, reserved)
		if err != nil {
			return err
		}
		err = Guarded(func() error { return call(context.WithValue(ctx, attemptKey{}, a)) })
		if err != nil {
			err = Reduce(err, a)
		}
		if again := t.leave(a, err); !again {
			return err
		}
	}
}

// State returns how long the throttle stays closed, a channel that is closed with each new reason, and the reason.
// The reason is nil while the throttle is open, and while it is not complete.
func (t *Throttle) State() (wait time.Duration, changed <-chan struct{}, reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch wait = t.notBefore.Sub(t.now()); {
	case wait <= 0:
		return 0, t.changed, nil
	case t.reading:
		return wait, t.changed, nil
	default:
		return wait, t.changed, t.reason
	}
}

// Throttled returns why requests still wait; nil if the service does not throttle.
func (t *Throttle) Throttled() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.consecutive == 0 && !t.now().Before(t.notBefore) && t.line.empty() {
		return nil
	}
	return t.reason
}

// Unused reports whether a new throttle would be in the same state.
func (t *Throttle) Unused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running == 0 && t.left == nil && t.consecutive == 0 && t.limit == t.most && !t.now().Before(t.notBefore) && !t.pace.limited()
}

// enter waits until a request may be sent. A reserved one needs no further turn of the pace.
func (t *Throttle) enter(ctx context.Context, end time.Time, reserved bool) (*Attempt, error) {
	var own *ticket
	defer func() { t.giveUp(own) }()
	for {
		t.mu.Lock()
		now := t.now()
		wait, reason := t.notBefore.Sub(now), t.reason
		var paced time.Duration
		turn, closed := true, wait > 0
		if wait <= 0 && t.running < t.limit {
			own = t.line.join(ctx, own, t.pace.limited())
			paced, turn = t.pace.wait(now, reserved), own == nil || t.line.first() == own
		}
		if wait <= 0 && t.running < t.limit && paced <= 0 && turn {
			t.running++
			t.pace.take(now, reserved)
			t.line.leave(own)
			own = nil
			a := &Attempt{throttle: t, epoch: t.epoch}
			t.mu.Unlock()
			return a, nil
		}
		changed := t.changed
		var left chan struct{}
		switch {
		case wait > 0:
		case t.running >= t.limit:
			if t.left == nil {
				t.left = make(chan struct{})
			}
			left = t.left
		case turn:
			wait = paced
		}
		t.mu.Unlock()
		if closed && wait > end.Sub(now) {
			return nil, reason
		}
		var over <-chan time.Time
		if wait > 0 {
			over = t.after(wait)
		}
		select {
		case <-over:
		case <-left:
		case <-own.called():
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// giveUp takes a request out of the line.
func (t *Throttle) giveUp(own *ticket) {
	if own == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line.leave(own)
}

// leave ends an attempt, and reports whether the call must be repeated.
func (t *Throttle) leave(a *Attempt, err error) (again bool) {
	a.mu.Lock()
	again = a.throttled && err != nil
	closed, sent := a.closed, a.status != 0
	a.mu.Unlock()
	answer, answered := errors.AsType[*Answer](err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	// A 403 or a 404 also shows that the service no longer throttles. It may be the only answer for hours.
	processed := err == nil || sent && answered && answer.Service == t.service && !retriable(answer.Status)
	switch {
	case closed != 0:
		if answered && answer.Status == closed { // otherwise the body broke, and only the status is known
			t.reason = err
		}
		t.reading = false
		close(t.changed)
		t.changed = make(chan struct{})
	case !again && processed && a.epoch == t.epoch:
		t.consecutive = 0
		t.limit = min(t.limit+1, t.most)
		t.pace.answered(t.now())
	}
	if t.left != nil {
		close(t.left)
		t.left = nil
	}
	return again
}

// pause closes the throttle for the length of Retry-After, or a back-off if there is none. Requests that were sent
// together are refused together, so only the first refusal counts.
func (t *Throttle) pause(epoch, status int, length time.Duration, hasRetryAfter bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := errors.AsType[*Answer](t.reason); !ok || last.Status != status {
		t.reason, t.reading = &Answer{Service: t.service, Status: status}, true
	}
	first := epoch == t.epoch
	if first {
		t.epoch++
		t.consecutive++
		t.limit = 1
	}
	if !hasRetryAfter || t.consecutive > 1 {
		length = max(length, backOff(t.consecutive))
	}
	now := t.now()
	if until := now.Add(length + t.jitter(length)); until.After(t.notBefore) {
		t.notBefore = until
	}
	if first && t.service == Vault && status == http.StatusTooManyRequests {
		t.pace.refused(now, now.Add(length), t.notBefore)
	}
}

// jitter is up to a tenth of a pause at random, so that the nodes of a cluster do not all retry at once.
func (t *Throttle) jitter(pause time.Duration) time.Duration {
	return time.Duration(t.random() * float64(max(pause/10, 100*time.Millisecond)))
}
