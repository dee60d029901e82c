package cache

import (
	"testing"
	"time"
)

// listedRefresh is the demand of a refresh that lists first.
func listedRefresh(since time.Time) Demand {
	return Demand{Refresh: true, Listed: true, Interval: time.Minute, Since: since}
}

// A value that a list shows is as young as the list, for a refresh that wants it and for no other caller.
func TestKeep(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{MountMaxAge: time.Minute, LastKnownGood: time.Hour})
	read := clock.now
	cache.Store(latestKey, listedRefresh(time.Time{}), Result[text]{Value: "v", At: read, Tenant: "t"})
	clock.pass(time.Minute)
	listed := clock.now
	result, ok := cache.Keep(latestKey, listedRefresh(read), "v", listed)
	if want := (Result[text]{Value: "v", At: listed, Read: read, Tenant: "t"}); !ok || result != want {
		t.Fatalf("%+v, %t, want %+v", result, ok, want)
	}
	clock.pass(time.Second)
	mount, unlisted := Demand{}, listedRefresh(read)
	unlisted.Listed = false
	for name, test := range map[string]struct {
		demand Demand
		want   bool
	}{
		"another volume that lists":         {listedRefresh(read), true},
		"one that has a newer value":        {listedRefresh(listed), false},
		"a volume that does not list":       {unlisted, false},
		"a first mount":                     {mount, false},
		"the policy, before the value":      {Demand{Refresh: true, Listed: true, Interval: time.Minute, NotBefore: read}, true},
		"the policy, between read and list": {Demand{Refresh: true, Listed: true, Interval: time.Minute, NotBefore: read.Add(1)}, false},
	} {
		if _, hit := cache.Find(latestKey, test.demand); hit != test.want {
			t.Errorf("%s: %t", name, hit)
		}
	}
	clock.pass(time.Hour - 2*time.Second)
	if last, ok := cache.LastKnown(latestKey, mount); !ok || !last.At.Equal(listed) {
		t.Errorf("in an outage: %+v, %t", last, ok)
	}
}

// A list does not keep what is not there, or is another value by now.
func TestKeepOfAnotherValue(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	if _, ok := cache.Keep(latestKey, listedRefresh(time.Time{}), "v", clock.now); ok {
		t.Error("an unknown object is kept")
	}
	before := clock.now
	clock.pass(time.Second)
	cache.Store(latestKey, listedRefresh(before), Result[text]{Value: "new", At: clock.now})
	if _, ok := cache.Keep(latestKey, listedRefresh(before), "v", clock.now); ok {
		t.Error("a changed object is kept")
	}
	cache.Store(latestKey, Demand{}, Result[text]{At: clock.now, Failure: &Failure{Err: errRefused, Refused: true}})
	if _, ok := cache.Keep(latestKey, listedRefresh(before), "new", clock.now); ok {
		t.Error("a refused object is kept")
	}
}

// A value is read again after a time of its own, up to a quarter before FullRead, however often lists show it; and at once
// if the policy wants it.
func TestHeld(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	read := clock.now
	cache.Store(latestKey, listedRefresh(time.Time{}), Result[text]{Value: "v", At: read})
	held := func(d Demand) bool {
		value, ok := cache.Held(latestKey, d)
		return ok && value == "v"
	}
	if demand := listedRefresh(read); !held(demand) {
		t.Error("not held")
	}
	demand := listedRefresh(read)
	demand.NotBefore = read.Add(1)
	if held(demand) {
		t.Error("held although the policy wants it to be read")
	}
	last := 0
	for minutes := 1; minutes <= 6*60; minutes++ {
		clock.pass(time.Minute)
		cache.Keep(latestKey, listedRefresh(read), "v", clock.now)
		if held(listedRefresh(read)) {
			last = minutes
		}
	}
	if last < 4*60+29 || last >= 6*60 {
		t.Errorf("held for %d minutes, want 4.5 to 6 hours", last)
	}
}

// What lists show as current stays in memory, and what they do not show is dropped like any other value.
func TestRetentionOfListedValues(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	cache.Store(latestKey, listedRefresh(time.Time{}), Result[text]{Value: "v", At: clock.now})
	for range 10 {
		clock.pass(time.Minute)
		cache.Keep(latestKey, listedRefresh(time.Time{}), "v", clock.now)
		cache.Tidy()
	}
	if _, ok := cache.Last(latestKey); !ok {
		t.Fatal("dropped")
	}
	clock.pass(time.Minute + CallTime)
	cache.Tidy()
	if _, ok := cache.Last(latestKey); ok {
		t.Error("kept without a list")
	}
}

// A read that began before a list and ends after it may have a newer value, so it replaces what the list has kept.
func TestAReadAcrossAList(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	cache.Store(latestKey, listedRefresh(time.Time{}), Result[text]{Value: "old", At: clock.now})
	clock.pass(time.Minute)
	began := clock.now
	clock.pass(time.Second)
	cache.Keep(latestKey, listedRefresh(time.Time{}), "old", clock.now)
	cache.Store(latestKey, Demand{}, Result[text]{Value: "new", At: began})
	if value, _ := cache.Last(latestKey); value != "new" {
		t.Errorf("the cache has %q", value)
	}
	if _, hit := cache.Find(latestKey, listedRefresh(clock.now)); hit {
		t.Error("the volume that the list has refreshed does not get the new value")
	}
}

// A list does not end the random delay of a volume that reads.
func TestDueAfterAList(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	lists := listedRefresh(time.Time{})
	reads := lists
	reads.Listed = false
	cache.Store(latestKey, lists, Result[text]{Value: "v", At: clock.now})
	clock.pass(time.Minute)
	before := cache.Due(latestKey, reads, time.Minute)
	cache.Keep(latestKey, lists, "v", clock.now)
	if got := cache.Due(latestKey, reads, time.Minute); got != before || before == 0 {
		t.Errorf("waits %v after a list, want %v", got, before)
	}
	if got := cache.Due(latestKey, lists, time.Minute); got != 0 {
		t.Errorf("a volume that lists waits %v", got)
	}
}

// Rotating counts only values that volumes refresh by listing, at least as often as the interval.
func TestRotating(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	store := func(name string, d Demand, value text) {
		key := latestKey
		key.Name = name
		cache.Store(key, d, Result[text]{Value: value, At: clock.now})
	}
	listed := Demand{Interval: time.Minute, Listed: true}
	store("a", listed, "v")
	store("b", listed, "v")
	store("never refreshed", Demand{Listed: true}, "v")
	store("refreshed less often", Demand{Interval: time.Hour, Listed: true}, "v")
	store("read", Demand{Interval: time.Minute}, "v")
	store("refused", listed, "")
	cache.Store(pinnedKey, listed, Result[text]{Value: "v", At: clock.now})
	all := func(Key) bool { return true }
	if got := cache.Rotating(time.Minute, all); got != 2 {
		t.Errorf("%d, want 2", got)
	}
	if got := cache.Rotating(time.Hour, all); got != 3 {
		t.Errorf("%d in an hour, want 3", got)
	}
	if got := cache.Rotating(time.Minute, func(key Key) bool { return key.Name == "a" }); got != 1 {
		t.Errorf("%d, want 1", got)
	}
	clock.pass(time.Minute + CallTime)
	a := latestKey
	a.Name = "a"
	cache.Find(a, Demand{Interval: time.Minute})
	if got := cache.Rotating(time.Minute, all); got != 0 {
		t.Errorf("%d after the volumes that list, want 0", got)
	}
	cache.Find(a, listed)
	if got := cache.Rotating(time.Minute, all); got != 1 {
		t.Errorf("%d with a volume that lists, want 1", got)
	}
	cache.Depart(func(any) bool { return true })
	if got := cache.Rotating(time.Minute, all); got != 0 {
		t.Errorf("%d after the last volume, want 0", got)
	}
}
