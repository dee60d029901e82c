package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pass waits in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

type waitFor = func(name string, s Service)

// slowFetch returns a value after some time, and counts its runs.
type slowFetch struct {
	takes time.Duration
	waits func(waitFor)

	mu    sync.Mutex
	count int
	ended error // of the context
}

func (f *slowFetch) fetch(ctx context.Context, report waitFor) Result[text] {
	f.mu.Lock()
	f.count++
	f.mu.Unlock()
	at := time.Now()
	if f.waits != nil {
		f.waits(report)
	}
	select {
	case <-time.After(f.takes):
		return Result[text]{Value: "v", At: at}
	case <-ctx.Done():
		f.ended = ctx.Err()
		return Result[text]{At: at, Failure: &Failure{Err: ctx.Err()}}
	}
}

func newSynctestCache(t *testing.T) *Cache[text] {
	t.Helper()
	c, _ := newCache(t, Options{MountMaxAge: time.Hour, LastKnownGood: 2 * time.Hour, Now: time.Now})
	return c
}

// One fetch serves all concurrent callers, and the cache serves the later ones.
func TestOneFetchForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		f := &slowFetch{takes: time.Second}
		var mu sync.Mutex
		outcomes := map[Outcome]int{}
		get := func() {
			result, outcome := c.Get(t.Context(), latestKey, Demand{}, 0, f.fetch)
			if result.Failure != nil || result.Value != "v" {
				t.Errorf("%+v", result)
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[outcome]++
		}
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(get)
		}
		synctest.Wait()
		if waiting := c.Waiting(); waiting != 50 {
			t.Errorf("%d callers wait, want 50", waiting)
		}
		callers.Wait()
		get()
		if f.count != 1 || outcomes[Miss] != 1 || outcomes[Shared] != 49 || outcomes[Hit] != 1 || c.Waiting() != 0 {
			t.Errorf("%d fetches, %v, %d wait still", f.count, outcomes, c.Waiting())
		}
	})
}

// A fetch ends when its last caller leaves, and not before.
func TestTheLastCallerEndsTheFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		f := &slowFetch{takes: time.Hour}
		var cancels []context.CancelFunc
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			cancels = append(cancels, cancel)
			go func() {
				if result, _ := c.Get(ctx, latestKey, Demand{}, 0, f.fetch); !errors.Is(result.Failure.Err, context.Canceled) {
					t.Errorf("%+v", result)
				}
			}()
			synctest.Wait()
		}
		cancels[0]()
		synctest.Wait()
		if f.count != 1 || f.ended != nil {
			t.Fatalf("%d fetches; ended while somebody waits: %v", f.count, f.ended)
		}
		cancels[1]()
		synctest.Wait() // no time passes: FetchTimeout does not end it
		if !errors.Is(f.ended, context.Canceled) {
			t.Errorf("after the last has gone the context of the fetch says %v, want that it was canceled", f.ended)
		}
		if _, known := c.entries[latestKey]; known || len(c.inflight) != 0 {
			t.Error("a fetch that was given up counts as an answer")
		}
	})
}

// A caller that comes after the last one has left starts its own fetch.
func TestTheFetchAfterAnEndedOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slowToEnd := func(ctx context.Context, _ waitFor) Result[text] {
			<-ctx.Done()
			pass(time.Minute)
			return Result[text]{Failure: &Failure{Err: ctx.Err()}}
		}
		_, _ = c.Get(ctx, latestKey, Demand{}, 0, slowToEnd)
		result, outcome := c.Get(t.Context(), latestKey, Demand{}, 0, (&slowFetch{takes: time.Second}).fetch)
		if result.Value != "v" || outcome != Miss {
			t.Errorf("%+v, %v", result, outcome)
		}
		pass(time.Minute)
		if value, ok := c.Last(latestKey); !ok || value != "v" || len(c.inflight) != 0 {
			t.Errorf("%q is the last value", value)
		}
	})
}

// No fetch is started for a caller whose context has ended.
func TestNoFetchForAnEndedContext(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	result, _ := c.Get(ctx, latestKey, Demand{}, 0, func(context.Context, waitFor) Result[text] {
		t.Error("a fetch")
		return Result[text]{}
	})
	if result.Failure == nil || !errors.Is(result.Failure.Err, context.Canceled) {
		t.Errorf("%+v", result)
	}
}

// A caller that has the last known value waits for its patience, or half of its time. The fetch continues, and its
// result serves later callers.
func TestPatience(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ deadline, patience, waits time.Duration }{
		{time.Minute, 10 * time.Second, 10 * time.Second},
		{8 * time.Second, 10 * time.Second, 4 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newSynctestCache(t)
			f := &slowFetch{takes: 15 * time.Second}
			ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
			defer cancel()
			began := time.Now()
			result, _ := c.Get(ctx, latestKey, Demand{}, test.patience, f.fetch)
			if result.Failure == nil || !errors.Is(result.Failure.Err, ErrImpatient) || time.Since(began) != test.waits {
				t.Errorf("%+v after %v, want %v after %v", result, time.Since(began), ErrImpatient, test.waits)
			}
			pass(15 * time.Second)
			if result, outcome := c.Get(t.Context(), latestKey, Demand{}, 0, f.fetch); result.Value != "v" || outcome != Hit || f.count != 1 {
				t.Errorf("later %+v, %v after %d fetches", result, outcome, f.count)
			}
		})
	}
}

// A caller does not wait for a service that is closed for longer than the caller's time. It gets the reason, also
// when the service closes during the wait, and when the fetch continues with another service.
func TestAClosedService(t *testing.T) {
	t.Parallel()
	errThrottled := errors.New("throttled")
	for name, test := range map[string]struct {
		waits func(s *service, report waitFor)
		after time.Duration
		asked string
		err   error
	}{
		"from the beginning": {func(s *service, report waitFor) {
			s.close(time.Minute, errThrottled)
			report("the vault", s)
		}, 0, "the vault", errThrottled},
		"while it is waited for": {func(s *service, report waitFor) {
			report("the vault", s)
			pass(3 * time.Second)
			s.close(time.Minute, errThrottled)
		}, 3 * time.Second, "the vault", errThrottled},
		"another service": {func(s *service, report waitFor) {
			report("the vault", newService())
			pass(3 * time.Second)
			s.close(time.Minute, errThrottled)
			report("Entra ID", s)
		}, 3 * time.Second, "Entra ID", errThrottled},
		"soon open": {func(s *service, report waitFor) {
			s.close(5*time.Second, errThrottled)
			report("the vault", s)
		}, 15 * time.Second, "the vault", nil},
		"throttled until the end": {func(s *service, report waitFor) {
			s.slow = errThrottled
			report("the vault", s)
			pass(time.Minute)
		}, 30 * time.Second, "the vault", errThrottled},
		"silent until the end": {func(s *service, report waitFor) {
			report("the vault", s)
			pass(time.Minute)
		}, 30 * time.Second, "the vault", context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newSynctestCache(t), newService()
			f := &slowFetch{takes: 15 * time.Second, waits: func(report waitFor) { test.waits(s, report) }}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			began := time.Now()
			result, _ := c.Get(ctx, latestKey, Demand{}, 0, f.fetch)
			took := time.Since(began)
			switch {
			case took != test.after:
				t.Errorf("%s: waited %v, want %v", name, took, test.after)
			case test.err == nil && (result.Failure != nil || result.Value != "v"):
				t.Errorf("%s: %+v, want the value", name, result.Failure)
			case test.err != nil && (result.Failure == nil || !errors.Is(result.Failure.Err, test.err) || result.Failure.Asked != test.asked):
				t.Errorf("%s: %+v, want %v of %s", name, result.Failure, test.err, test.asked)
			}
			pass(2 * time.Minute) // until the fetch has ended
		})
	}
}

// A fetch that no caller leaves ends after FetchTimeout, with a failure.
func TestFetchTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		f := &slowFetch{takes: time.Hour}
		began := time.Now()
		result, _ := c.Get(t.Context(), latestKey, Demand{}, 0, f.fetch)
		if result.Failure == nil || !errors.Is(result.Failure.Err, context.DeadlineExceeded) || time.Since(began) != FetchTimeout {
			t.Errorf("%+v after %v", result, time.Since(began))
		}
		if result, outcome := c.Get(t.Context(), latestKey, Demand{}, 0, f.fetch); outcome != Hit || result.Failure == nil {
			t.Errorf("%+v, %v; want the failure again", result, outcome)
		}
	})
}

// Alone makes a fetch that is neither shared nor stored.
func TestAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		f := &slowFetch{takes: time.Second}
		var callers sync.WaitGroup
		for range 2 {
			callers.Go(func() {
				if result := c.Alone(t.Context(), f.fetch); result.Value != "v" {
					t.Errorf("%+v", result)
				}
			})
		}
		callers.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if result := c.Alone(ctx, f.fetch); result.Failure == nil || !errors.Is(result.Failure.Err, context.DeadlineExceeded) {
			t.Errorf("%+v, want the end of the time", result)
		}
		synctest.Wait()
		if f.count != 3 || !errors.Is(f.ended, context.Canceled) || len(c.entries) != 0 || len(c.inflight) != 0 {
			t.Errorf("%d fetches, the last ended by %v; %d entries", f.count, f.ended, len(c.entries))
		}
	})
}
