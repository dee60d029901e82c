package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// NotBefore excludes older answers from everything that is answered without a fetch.
func TestNotBefore(t *testing.T) {
	t.Parallel()
	absent := &Failure{Err: errRefused, Refused: true, Absent: true}
	for _, test := range []struct {
		name   string
		key    Key
		answer Result[text]
		demand Demand
		age    time.Duration
		hit    bool // without NotBefore, and with one that is not later than the answer
	}{
		{"a mount", latestKey, Result[text]{Value: "v"}, Demand{}, time.Second, true},
		{"a mount, pinned", pinnedKey, Result[text]{Value: "v"}, Demand{}, time.Second, true},
		{"a refresh", latestKey, Result[text]{Value: "v"}, Demand{Refresh: true, Interval: time.Hour}, time.Second, true},
		{"a refresh, pinned", pinnedKey, Result[text]{Value: "v"}, Demand{Refresh: true, Interval: time.Hour}, 2 * time.Hour, true},
		{"a refresh, absent", latestKey, Result[text]{Failure: absent}, Demand{Refresh: true, Interval: time.Hour, Optional: true}, time.Minute, true},
	} {
		for _, row := range []struct {
			name      string
			notBefore time.Duration // later than the answer
			hit       bool
		}{{"earlier", -1, test.hit}, {"the same time", 0, test.hit}, {"later", 1, false}} {
			cache, clock := newCache(t, Options{MountMaxAge: time.Hour})
			test.answer.At = clock.now
			cache.Store(test.key, Demand{}, test.answer)
			clock.pass(test.age)
			if _, hit := cache.Find(test.key, test.demand); hit != test.hit {
				t.Errorf("%s without NotBefore: %t", test.name, hit)
			}
			demand := test.demand
			demand.NotBefore = test.answer.At.Add(row.notBefore)
			if result, hit := cache.Find(test.key, demand); hit != row.hit {
				t.Errorf("%s, %s: %+v, %t, want %t", test.name, row.name, result, hit, row.hit)
			}
		}
	}
}

// The last known value is not used in an outage if it is too old, or if its age is not known.
func TestLastKnownNotBefore(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{LastKnownGood: time.Hour})
	at := clock.now
	cache.Store(latestKey, Demand{}, Result[text]{Value: "v", At: at})
	for notBefore, want := range map[time.Duration]bool{-1: true, 0: true, 1: false} {
		if _, known := cache.LastKnown(latestKey, Demand{NotBefore: at.Add(notBefore)}); known != want {
			t.Errorf("%v later: %t, want %t", notBefore, known, want)
		}
	}
	clock.pass(-time.Minute)
	if _, known := cache.LastKnown(latestKey, Demand{NotBefore: clock.now}); known {
		t.Error("a value from the future is used")
	}
	cache.Store(pinnedKey, Demand{}, Result[text]{Value: "v", At: at})
	if _, hit := cache.Find(pinnedKey, Demand{Refresh: true, NotBefore: clock.now}); hit {
		t.Error("a pinned value from the future is used")
	}
}

// Volumes without an interval that are due for the same reason share one fetch. Without NotBefore they share none.
func TestVolumesWithoutAnIntervalShare(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	before := clock.now
	clock.pass(time.Minute)
	cache.Store(latestKey, Demand{}, Result[text]{Value: "v", At: clock.now})
	demand := Demand{Refresh: true, Since: before, NotBefore: clock.now}
	clock.pass(CallTime - 1)
	if _, hit := cache.Find(latestKey, demand); !hit {
		t.Error("a volume of the same round fetches again")
	}
	clock.pass(1)
	if _, hit := cache.Find(latestKey, demand); hit {
		t.Error("a volume of a later round gets the old value")
	}
	clock.pass(-1)
	demand.NotBefore = time.Time{}
	if _, hit := cache.Find(latestKey, demand); hit {
		t.Error("shared without a reason")
	}
}

// A caller does not join a fetch that began before NotBefore. The late result of that fetch does not replace the newer one.
func TestNotBeforeWhileAFetchRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		release := make(chan struct{})
		began := time.Now()
		first := make(chan Result[text], 1)
		go func() {
			result, _ := c.Get(t.Context(), latestKey, Demand{}, 0, func(context.Context, waitFor) Result[text] {
				<-release
				return Result[text]{Value: "old", At: began}
			})
			first <- result
		}()
		pass(time.Second)
		joining := make(chan Outcome, 1)
		go func() {
			_, outcome := c.Get(t.Context(), latestKey, Demand{NotBefore: began}, 0, nil)
			joining <- outcome
		}()
		synctest.Wait()
		fresh := &slowFetch{takes: time.Second}
		result, outcome := c.Get(t.Context(), latestKey, Demand{NotBefore: began.Add(1)}, 0, fresh.fetch)
		if result.Value != "v" || outcome != Miss || fresh.count != 1 {
			t.Errorf("%+v, %v after %d fetches", result, outcome, fresh.count)
		}
		close(release)
		if result, outcome := <-first, <-joining; result.Value != "old" || outcome != Shared {
			t.Errorf("those who may have the old value: %+v, %v", result, outcome)
		}
		if value, _ := c.Last(latestKey); value != "v" || len(c.inflight) != 0 {
			t.Errorf("%q is kept, %d fetches", value, len(c.inflight))
		}
	})
}
