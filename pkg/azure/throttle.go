package azure

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Throttle limits the requests to one service and honours its Retry-After. A throttled vault counts the requests of
// all identities together, and refused requests load it too.
//
// It closes with the first 429, or another failure that has Retry-After. It stays closed until that time and some
// jitter have passed, so that the nodes of a cluster do not retry together. Then it allows one concurrent request,
// and one more with each request that the service has processed.
type Throttle struct {
	service Service
	most    int
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time

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
}

// NewThrottle makes an open throttle of a service for at most that many concurrent requests. after is the timer of
// the clock now.
func NewThrottle(service Service, most int, now func() time.Time, after func(time.Duration) <-chan time.Time) *Throttle {
	return &Throttle{service: service, now: now, after: after, most: most, limit: most, changed: make(chan struct{})}
}

// Attempt is one call through a throttle, with the last outcome that the transport recorded. The context of the call
// holds it. A nil Attempt records nothing.
type Attempt struct {
	throttle *Throttle
	epoch    int

	mu        sync.Mutex
	host      string
	status    int
	err       error
	closed    int  // the status of the answer that closed the throttle; 0 if none did
	throttled bool // closed, or the throttle was closed before a request could be sent
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *Attempt {
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}

// AttemptOf returns the attempt of a context, for [Reduce]; nil outside of [Throttle.Do].
func AttemptOf(ctx context.Context) *Attempt { return attemptOf(ctx) }

// Do makes one call as soon as the throttle allows it, and repeats it if it was throttled. The context of the call
// has the attempt. The error is the reduced error of the call, see [Reduce]; the reason of the throttle if it stays
// closed for longer than patience; or the error of ctx.
func (t *Throttle) Do(ctx context.Context, patience time.Duration, call func(context.Context) error) error {
	end := t.now().Add(patience)
	for {
		a, err := t.enter(ctx, end)
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
	if t.consecutive == 0 && !t.now().Before(t.notBefore) {
		return nil
	}
	return t.reason
}

// Unused reports whether a new throttle would be in the same state.
func (t *Throttle) Unused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running == 0 && t.left == nil && t.consecutive == 0 && t.limit == t.most && !t.now().Before(t.notBefore)
}

// enter waits until a request may be sent.
func (t *Throttle) enter(ctx context.Context, end time.Time) (*Attempt, error) {
	for {
		t.mu.Lock()
		wait, reason := t.notBefore.Sub(t.now()), t.reason
		if wait <= 0 && t.running < t.limit {
			t.running++
			a := &Attempt{throttle: t, epoch: t.epoch}
			t.mu.Unlock()
			return a, nil
		}
		changed := t.changed
		var left chan struct{}
		if wait <= 0 {
			if t.left == nil {
				t.left = make(chan struct{})
			}
			left = t.left
		}
		t.mu.Unlock()
		if wait > end.Sub(t.now()) {
			return nil, reason
		}
		var over <-chan time.Time
		if wait > 0 {
			over = t.after(wait)
		}
		select {
		case <-over:
		case <-left:
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
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
	if epoch == t.epoch {
		t.epoch++
		t.consecutive++
		t.limit = 1
	}
	if !hasRetryAfter || t.consecutive > 1 {
		length = max(length, backOff(t.consecutive))
	}
	if until := t.now().Add(withJitter(length)); until.After(t.notBefore) {
		t.notBefore = until
	}
}

// blocked returns the reason not to send a request now; nil if it can be sent.
func (a *Attempt) blocked() error {
	if a == nil {
		return nil
	}
	t := a.throttle
	t.mu.Lock()
	wait, reason := t.notBefore.Sub(t.now()), t.reason
	t.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.throttled = true
	return reason
}

// Unsent reports whether the throttle closed before a request could be sent.
func (a *Attempt) Unsent() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.throttled && a.host == ""
}

// record keeps how a request ended, and closes the throttle if the answer requires it. resp is nil if there was no
// answer.
func (a *Attempt) record(req *http.Request, resp *http.Response, err error) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.host, a.err, a.status = req.URL.Host, err, 0
	if resp == nil {
		return
	}
	a.status = resp.StatusCode
	if pause, hasRetryAfter := retryAfter(resp.Header, a.throttle.now()); closesThrottle(resp.StatusCode, hasRetryAfter) {
		a.throttled, a.closed = true, resp.StatusCode
		a.throttle.pause(a.epoch, resp.StatusCode, pause, hasRetryAfter)
	}
}

// last returns what the transport recorded last.
func (a *Attempt) last() (host string, status int, err error) {
	if a == nil {
		return "", 0, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.host, a.status, a.err
}
