package azure

import (
	"context"
	"net/http"
	"sync"
)

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

// AttemptOf returns the attempt of a context, for [Reduce]; nil outside of [Throttle.Do].
func AttemptOf(ctx context.Context) *Attempt {
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
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
