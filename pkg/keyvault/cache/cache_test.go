package cache

import (
	"errors"
	"testing"
	"time"
)

// text is a value.
type text string

func (t text) Size() int { return len(t) }

var (
	errRefused = errors.New("refused")
	errNothing = errors.New("no answer")

	latestKey = Key{Identity: "web", Vault: "https://shop.vault.azure.net", Interface: "secrets", Name: "tls"}
	pinnedKey = Key{Identity: "web", Vault: "https://shop.vault.azure.net", Interface: "secrets", Name: "tls", Version: "1"}
)

// clock is the time of a test.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newCache(tb testing.TB, o Options) (*Cache[text], *clock) {
	tb.Helper()
	c := &clock{time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	if o.Now == nil {
		o.Now = func() time.Time { return c.now }
	}
	o.After = time.After
	cache, err := New[text](o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return cache, c
}

// A first mount takes a value younger than MountMaxAge, a refresh one younger than its interval and newer than what
// its volume has. A pinned version cannot change.
func TestFreshness(t *testing.T) {
	t.Parallel()
	const mountMaxAge, interval = time.Minute, 5 * time.Minute
	mount, refresh := Demand{Interval: interval}, Demand{Refresh: true, Interval: interval}
	for _, test := range []struct {
		name   string
		key    Key
		age    time.Duration
		demand Demand
		since  time.Duration // age of what the volume has, relative to the value; 0 means unknown
		hit    bool
	}{
		{"a mount, fresh", latestKey, mountMaxAge - 1, mount, 0, true},
		{"a mount, old", latestKey, mountMaxAge, mount, 0, false},
		{"a mount, of the future", latestKey, -1, mount, 0, false},
		{"a mount, pinned and fresh", pinnedKey, mountMaxAge - 1, mount, 0, true},
		{"a mount, pinned and old", pinnedKey, mountMaxAge, mount, 0, false},
		{"a refresh, fresh", latestKey, interval - 1, refresh, 0, true},
		{"a refresh, old", latestKey, interval, refresh, 0, false},
		{"a refresh, of the future", latestKey, -1, refresh, 0, false},
		{"a refresh, newer than what the volume has", latestKey, interval - 1, refresh, 1, true},
		{"a refresh, newer but old", latestKey, interval, refresh, 1, false},
		{"a refresh, older than what the volume has", latestKey, 1, refresh, -1, false},
		{"a refresh, pinned and old", pinnedKey, 100 * interval, refresh, 0, true},
		{"a refresh, pinned and what the volume has", pinnedKey, 100 * interval, refresh, -1, true},
	} {
		cache, clock := newCache(t, Options{MountMaxAge: mountMaxAge})
		at := clock.now
		cache.Store(test.key, Demand{}, Result[text]{Value: "v", At: at, Tenant: "contoso"})
		clock.pass(test.age)
		if test.since != 0 {
			test.demand.Since = at.Add(-test.since)
		}
		result, hit := cache.Find(test.key, test.demand)
		if hit != test.hit || hit && (result.Value != "v" || !result.At.Equal(at) || result.Tenant != "contoso" || result.Failure != nil) {
			t.Errorf("%s: %+v, %t; want %t", test.name, result, hit, test.hit)
		}
	}
}

// A refresh does not take the value that its volume already has.
func TestARefreshNeedsANewerValue(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	demand := Demand{Refresh: true, Interval: time.Hour, Since: clock.now}
	cache.Store(latestKey, demand, Result[text]{Value: "v", At: clock.now})
	if _, hit := cache.Find(latestKey, demand); hit {
		t.Error("given out again")
	}
}

// A value of one identity is not given to another.
func TestIdentitiesShareNothing(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{MountMaxAge: time.Hour, LastKnownGood: time.Hour})
	cache.Store(latestKey, Demand{}, Result[text]{Value: "v", At: clock.now})
	other := latestKey
	other.Identity = "other"
	_, found := cache.Find(other, Demand{})
	_, known := cache.LastKnown(other, Demand{})
	if _, last := cache.Last(other); found || known || last {
		t.Errorf("found %t, last known %t, last %t", found, known, last)
	}
}

// A failed fetch answers the next ones: for two seconds after a refusal, which removes the value, and for 10 to 30
// seconds after an outage.
func TestFailuresPause(t *testing.T) {
	t.Parallel()
	refused, unanswered := &Failure{Err: errRefused, Refused: true}, &Failure{Err: errNothing}
	for _, test := range []struct {
		name         string
		failure      *Failure
		least, below time.Duration
		keeps        bool
	}{
		{"a refusal", refused, refusedPause, refusedPause + 1, false},
		{"no answer", unanswered, failedPause, failedPause + failedSpread + 1, true},
	} {
		cache, clock := newCache(t, Options{LastKnownGood: time.Hour})
		cache.Store(latestKey, Demand{}, Result[text]{Value: "v", At: clock.now})
		clock.pass(time.Second)
		cache.Store(latestKey, Demand{}, Result[text]{At: clock.now, Failure: test.failure})
		if result, known := cache.LastKnown(latestKey, Demand{}); known != test.keeps || known && result.Value != "v" {
			t.Errorf("%s: the last known value is %+v, %t; want %t", test.name, result, known, test.keeps)
		}
		clock.pass(test.least - 1)
		if result, hit := cache.Find(latestKey, Demand{}); !hit || result.Failure != test.failure || result.Value != "" ||
			cache.Paused(latestKey) != test.failure {
			t.Errorf("%s: after %v %+v, %t; want the failure", test.name, test.least-1, result, hit)
		}
		clock.pass(test.below - test.least)
		if result, hit := cache.Find(latestKey, Demand{}); hit || cache.Paused(latestKey) != nil {
			t.Errorf("%s: after %v still %+v", test.name, test.below, result)
		}
		cache.Store(latestKey, Demand{}, Result[text]{Value: "new", At: clock.now})
		if result, hit := cache.Find(latestKey, Demand{Refresh: true, Interval: time.Hour}); !hit || result.Value != "new" {
			t.Errorf("%s: after a success %+v, %t", test.name, result, hit)
		}
	}
}

// The absence of an optional object answers a refresh as a value does.
func TestAbsence(t *testing.T) {
	t.Parallel()
	absent, refused := Failure{Err: errRefused, Refused: true, Absent: true}, Failure{Err: errRefused, Refused: true}
	refresh := Demand{Refresh: true, Optional: true, Interval: time.Hour}
	for _, test := range []struct {
		name    string
		failure Failure
		demand  Demand
		age     time.Duration
		hit     bool
	}{
		{"a refresh", absent, refresh, time.Hour - 1, true},
		{"later", absent, refresh, time.Hour, false},
		{"of an object that is needed", absent, Demand{Refresh: true, Interval: time.Hour}, time.Minute, false},
		{"a first mount", absent, Demand{Optional: true, Interval: time.Hour}, time.Minute, false},
		{"another refusal", refused, refresh, time.Minute, false},
	} {
		cache, clock := newCache(t, Options{MountMaxAge: time.Hour})
		cache.Store(latestKey, Demand{}, Result[text]{At: clock.now, Failure: &test.failure})
		if _, hit := cache.Find(latestKey, Demand{Refresh: true, Optional: true, Interval: time.Hour, Since: clock.now}); !hit {
			t.Errorf("%s: the failure has no time at all", test.name)
		}
		clock.pass(test.age)
		if result, hit := cache.Find(latestKey, test.demand); hit != test.hit {
			t.Errorf("%s: %+v, %t, want %t", test.name, result, hit, test.hit)
		}
		if test.demand.Since = clock.now; test.hit {
			if _, hit := cache.Find(latestKey, test.demand); hit {
				t.Errorf("%s: the volume has that already", test.name)
			}
		}
	}
}

// The result of an older fetch does not replace a newer one, unless the newer one is in the future.
func TestResultsThatComeLate(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{MountMaxAge: time.Hour})
	began := clock.now
	clock.pass(time.Second)
	find := func() text { result, _ := cache.Find(latestKey, Demand{}); return result.Value }
	cache.Store(latestKey, Demand{}, Result[text]{Value: "new", At: clock.now})
	cache.Store(latestKey, Demand{}, Result[text]{Value: "old", At: began})
	cache.Store(latestKey, Demand{}, Result[text]{At: began, Failure: &Failure{Err: errRefused, Refused: true}})
	if value := find(); value != "new" {
		t.Errorf("%q, want the newer", value)
	}
	clock.pass(-time.Hour) // the clock is set back
	cache.Store(latestKey, Demand{}, Result[text]{Value: "by the new clock", At: clock.now})
	if value := find(); value != "by the new clock" {
		t.Errorf("%q after the clock was set back", value)
	}
}

// The last value is available at any age for comparison, and for a limited time as the last known one.
func TestLastKnown(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{LastKnownGood: time.Hour})
	if _, ok := cache.Last(latestKey); ok {
		t.Error("there is a last value before the first")
	}
	cache.Store(latestKey, Demand{}, Result[text]{Value: "v", At: clock.now})
	for _, step := range []struct {
		after time.Duration
		known bool
	}{{time.Hour - 1, true}, {1, false}} {
		clock.pass(step.after)
		_, known := cache.LastKnown(latestKey, Demand{})
		if value, ok := cache.Last(latestKey); known != step.known || value != "v" || !ok {
			t.Errorf("%v later: last known %t, last %q; want %t", step.after, known, value, step.known)
		}
	}
}

// Objects become due up to spread after their interval, at the same moment for all callers.
func TestDue(t *testing.T) {
	t.Parallel()
	const interval, spread = 5 * time.Minute, 10 * time.Second
	waits := map[time.Duration]bool{}
	for range 100 {
		cache, clock := newCache(t, Options{})
		if wait := cache.Due(latestKey, Demand{Refresh: true, Interval: interval}, spread); wait != 0 {
			t.Fatalf("what is not known is due in %v", wait)
		}
		cache.Store(latestKey, Demand{}, Result[text]{Value: "v", At: clock.now})
		clock.pass(interval - 1)
		if wait := cache.Due(latestKey, Demand{Refresh: true, Interval: interval}, spread); wait != 0 {
			t.Fatalf("%v before the interval is over", wait)
		}
		clock.pass(1)
		wait := cache.Due(latestKey, Demand{Refresh: true, Interval: interval}, spread)
		if wait < 0 || wait >= spread {
			t.Fatalf("due in %v, want at most %v", wait, spread)
		}
		waits[wait] = true
		clock.pass(wait / 2)
		if later := cache.Due(latestKey, Demand{Refresh: true, Interval: interval}, spread); later != wait-wait/2 {
			t.Fatalf("due in %v, and %v later in %v", wait, wait/2, later)
		}
		clock.pass(spread)
		if wait := cache.Due(latestKey, Demand{Refresh: true, Interval: interval}, spread); wait != 0 {
			t.Fatalf("overdue, and due in %v", wait)
		}
	}
	if len(waits) < 90 {
		t.Errorf("%d of 100 caches have a moment of their own", len(waits))
	}
}
