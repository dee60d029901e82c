package keyvault

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// outcome is what the transport saw last on behalf of one call, see note.
type outcome struct {
	mu     sync.Mutex
	host   string
	status int
	header http.Header
	err    error
}

type outcomeKey struct{}

func withOutcome(ctx context.Context) (context.Context, *outcome) {
	seen := &outcome{}
	return context.WithValue(ctx, outcomeKey{}, seen), seen
}

func note(req *http.Request, resp *http.Response, err error) {
	seen, ok := req.Context().Value(outcomeKey{}).(*outcome)
	if !ok {
		return
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	seen.host, seen.err, seen.status, seen.header = req.URL.Host, err, 0, nil
	if resp != nil {
		seen.status, seen.header = resp.StatusCode, resp.Header
	}
}

func (o *outcome) last() (host string, status int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.host, o.status, o.err
}

// throttled says whether the last answer was one after which the service wants to be left alone, and for how long.
func (o *outcome) throttled() (pause time.Duration, named, throttled bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	pause, named = retryAfter(o.header, time.Now())
	return pause, named, throttles(o.status, named)
}
