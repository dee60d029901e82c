package keyvault

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"none", http.Header{}, 0},
		{"seconds", http.Header{"Retry-After": {"7"}}, 7 * time.Second},
		{"a date", http.Header{"Retry-After": {"Mon, 23 Nov 2026 12:00:09 GMT"}}, 9 * time.Second},
		{"a date by the clock of the service", http.Header{
			"Retry-After": {"Mon, 23 Nov 2026 11:30:09 GMT"}, "Date": {"Mon, 23 Nov 2026 11:30:00 GMT"},
		}, 9 * time.Second},
		{"a date of the past", http.Header{"Retry-After": {"Mon, 23 Nov 2026 11:00:00 GMT"}}, 0},
		{"milliseconds", http.Header{"Retry-After-Ms": {"1500"}}, 1500 * time.Millisecond},
		{"milliseconds of Azure", http.Header{"X-Ms-Retry-After-Ms": {"20"}}, 20 * time.Millisecond},
		{"the finer one", http.Header{"Retry-After-Ms": {"1500"}, "Retry-After": {"2"}}, 1500 * time.Millisecond},
		{"zero", http.Header{"Retry-After": {"0"}}, 0},
		{"negative", http.Header{"Retry-After": {"-5"}}, 0},
		{"nonsense", http.Header{"Retry-After": {"soon"}}, 0},
		{"a year", http.Header{"Retry-After": {"31536000"}}, time.Hour},
		{"a number without end", http.Header{"Retry-After": {"9223372036854775807"}}, time.Hour},
	} {
		pause, named := retryAfter(test.header, now)
		if pause = max(pause, 0); pause != test.want || named != (test.want > 0) {
			t.Errorf("%s: %v, %t, want %v", test.name, pause, named, test.want)
		}
	}
}

// service is a vault that allows so many requests in each window of ten seconds and says when the next one begins.
type service struct {
	mu      sync.Mutex
	allowed int
	spent   int
	window  time.Time
	early   int // requests before the time that an answer had named
	not     time.Time
	atOnce  atomic.Int64
	most    int64
	refused int
}

const windowLength = 10 * time.Second

func (s *service) answer() *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.not) {
		s.early++
	}
	if now.Sub(s.window) >= windowLength {
		s.window, s.spent = now, 0
	}
	if s.spent++; s.spent <= s.allowed {
		return &http.Response{StatusCode: http.StatusOK}
	}
	s.refused++
	s.not = s.window.Add(windowLength).Truncate(time.Second)
	return refusedWith(http.StatusTooManyRequests, http.Header{"Retry-After": {s.not.UTC().Format(http.TimeFormat)}})
}

func refusedWith(status int, header http.Header) *http.Response {
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(`{"error":{"code":"Throttled"}}`)),
		Request: &http.Request{URL: &url.URL{Scheme: "https", Host: "shop.vault.azure.net"}},
	}
}

// call is what a request to the service is to the gate: sent if it may be, answered after some time.
func (s *service) call(ctx context.Context) error {
	turn := turnOf(ctx)
	if refusal := turn.refusal(); refusal != nil {
		return refusal
	}
	running := s.atOnce.Add(1)
	defer s.atOnce.Add(-1)
	s.mu.Lock()
	s.most = max(s.most, running)
	s.mu.Unlock()
	resp := s.answer()
	<-time.After(20 * time.Millisecond)
	turn.heard(resp)
	if resp.StatusCode != http.StatusOK {
		return &answer{status: resp.StatusCode}
	}
	return nil
}

// Two thousand requests want to go to a vault that allows 500 in ten seconds: all arrive, hardly later than possible, none
// before the vault wants it but those that were on their way, and never more than the limit at the same time.
func TestThrottledVault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{allowed: 500, window: time.Now()}
		g := newGate(time.Now, time.After)
		began := time.Now()
		var callers sync.WaitGroup
		for range 2000 {
			callers.Go(func() {
				if err := g.through(t.Context(), s.call); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if took, ideal := time.Since(began), 30*time.Second; took < ideal || took > ideal*5/4 {
			t.Errorf("took %v, ideal would be %v", took, ideal)
		}
		if s.early > s.refused || s.refused > 4*perVault || s.early > 3*perVault {
			t.Errorf("%d requests refused, %d before their time", s.refused, s.early)
		}
		if s.most > perVault {
			t.Errorf("%d requests at the same time, want at most %d", s.most, perVault)
		}
		if g.inside != 0 || len(g.queue) != 0 || g.limit != perVault {
			t.Errorf("left: %d inside, %d in the queue, limit %d", g.inside, len(g.queue), g.limit)
		}
	})
}

// After Retry-After one request goes first; the others follow when it has succeeded, and then more and more.
func TestTheGateOpensSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(time.Now, time.After)
		began := time.Now()
		var after []time.Duration
		var mu sync.Mutex
		var callers sync.WaitGroup
		for i := range 50 {
			callers.Go(func() {
				tries := 0
				_ = g.through(t.Context(), func(ctx context.Context) error {
					turn := turnOf(ctx)
					if tries++; i == 0 && tries == 1 {
						turn.heard(refusedWith(503, http.Header{"Retry-After": {"5"}}))
						return errStrange
					}
					if g.generation == 0 { // on its way already
						return nil
					}
					mu.Lock()
					after = append(after, time.Since(began))
					mu.Unlock()
					<-time.After(100 * time.Millisecond)
					return nil
				})
			})
			synctest.Wait()
		}
		callers.Wait()
		if len(after) != 50 {
			t.Fatalf("%d calls after the gate closed, want 50", len(after))
		}
		if after[0] < 5*time.Second || after[0] > 5500*time.Millisecond {
			t.Errorf("the first after %v, want 5s and up to a tenth more", after[0])
		}
		for i, want := range []int{1, 2, 4, 8, 16, 16} { // requests in each tenth of a second
			got := 0
			for _, at := range after {
				if at >= after[0]+time.Duration(i)*100*time.Millisecond && at < after[0]+time.Duration(i+1)*100*time.Millisecond {
					got++
				}
			}
			if got > want || i < 4 && got != want {
				t.Errorf("round %d: %d requests, want %d", i, got, want)
			}
		}
	})
}

// A vault that refuses what it is asked for, but no longer that it is asked, is open: its throttling is over, and nobody
// is told of it.
func TestARefusalOpensTheGate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		open bool
	}{
		{&answer{status: 404}, true},
		{&answer{status: 403}, true},
		{&answer{status: 401}, true},
		{&answer{status: 500}, false},
		{&answer{status: 401, entra: true}, false}, // of the authority
		{errStrange, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(time.Now, time.After)
			calls := 0
			call := func(ctx context.Context) error {
				if calls++; calls == 1 {
					turnOf(ctx).heard(refusedWith(429, http.Header{"Retry-After": {"1"}}))
				}
				return test.err
			}
			for range 2 * perVault {
				if err := g.through(t.Context(), call); !errors.Is(err, test.err) {
					t.Fatal(err)
				}
			}
			if reason := g.throttled(); (reason == nil) != test.open || (g.limit == perVault) != test.open {
				t.Errorf("after %v: limit %d, throttled: %v; want open %t", test.err, g.limit, reason, test.open)
			}
		})
	}
}

// A vault that throttles without a time, or says a second again and again, is asked less and less.
func TestBackOff(t *testing.T) {
	t.Parallel()
	for _, header := range []http.Header{{}, {"Retry-After": {"1"}}} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(time.Now, time.After)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			calls := 0
			err := g.through(ctx, func(ctx context.Context) error {
				calls++
				turnOf(ctx).heard(refusedWith(429, header))
				return &answer{status: 429}
			})
			if !errors.Is(err, context.DeadlineExceeded) || calls < 6 || calls > 8 { // 1+2+4+8+16+30+30 seconds and some chance
				t.Errorf("%v: %d calls in two minutes, %v", header, calls, err)
			}
			if reason := g.throttled(); reason == nil || reason.status != 429 {
				t.Errorf("the reason is %v", reason)
			}
		})
	}
}

// Whoever leaves the queue takes no place with him.
func TestLeavingTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(time.Now, time.After)
		var callers sync.WaitGroup
		for i := range 500 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%7)*10*time.Millisecond)
				defer cancel()
				err := g.through(ctx, func(ctx context.Context) error {
					select {
					case <-time.After(10 * time.Millisecond):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if g.inside != 0 || len(g.queue) != 0 {
			t.Errorf("%d inside, %d in the queue after all have gone", g.inside, len(g.queue))
		}
	})
}
