package cache

import (
	"testing"
	"time"
)

// While the vault limits the requests of the node, a refresh takes values that are older than the interval, and values stay longer.
func TestLate(t *testing.T) {
	t.Parallel()
	const interval, late = 2 * time.Minute, 20 * time.Minute
	cache, clock := newCache(t, Options{})
	read := clock.now
	cache.Store(latestKey, Demand{Interval: interval}, Result[text]{Value: "v", At: read})
	limited := Demand{Refresh: true, Interval: interval, Since: read, Limited: true, Late: late}
	for _, step := range []struct {
		pass time.Duration
		hit  bool
	}{{late - 1, true}, {1, false}} {
		clock.pass(step.pass)
		if r, hit := cache.Find(latestKey, limited); hit != step.hit || hit && (r.Value != "v" || !r.At.Equal(read)) {
			t.Errorf("after %v: %+v, %t", clock.now.Sub(read), r, hit)
		}
	}
	if _, hit := cache.Find(latestKey, Demand{Limited: true, Late: late}); hit {
		t.Error("a first mount takes a late value")
	}
	clock.pass(interval + CallTime - 1)
	if need := cache.Need(latestKey.Vault); need != 1/interval.Seconds() {
		t.Errorf("%g requests a second", need)
	}
	clock.pass(1)
	if need := cache.Need(latestKey.Vault); need != 0 {
		t.Errorf("%g requests a second for volumes that are gone", need)
	}
	limited.NotBefore = clock.now
	if _, known := cache.Late(latestKey, limited); known {
		t.Error("a late value is older than NotBefore")
	}
	limited.NotBefore = time.Time{}
	clock.pass(LateTime - late - (interval + CallTime) - 1)
	if _, known := cache.Late(latestKey, limited); !known || cache.Tidy() != 0 {
		t.Error("the value is gone early")
	}
	clock.pass(1)
	if _, known := cache.Late(latestKey, limited); known || cache.Tidy() == 0 {
		t.Error("the value stays too long")
	}
	cache.Store(latestKey, limited, Result[text]{Value: "v", At: clock.now})
	cache.Find(latestKey, Demand{Refresh: true, Interval: interval})
	clock.pass(interval + CallTime)
	if cache.Tidy() == 0 {
		t.Error("the value stays although the vault limits nothing")
	}
}
