package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A value is dropped when it is older than the longest time for which it may be used.
func TestRetention(t *testing.T) {
	t.Parallel()
	const minute, hour = time.Minute, time.Hour
	web := func(identity any) bool { return identity == "web" }
	other := func(identity any) bool { return identity == "other" }
	for _, test := range []struct {
		name      string
		options   Options
		key       Key
		intervals []time.Duration
		depart    func(identity any) bool
		keep      time.Duration
	}{
		{"of no volume", Options{}, latestKey, []time.Duration{0}, nil, CallTime},
		{"of one volume", Options{}, latestKey, []time.Duration{5 * minute}, nil, 5*minute + CallTime},
		{"of several volumes", Options{}, latestKey, []time.Duration{5 * minute, hour, minute}, nil, hour + CallTime},
		{"for first mounts", Options{MountMaxAge: hour}, latestKey, []time.Duration{minute}, nil, hour},
		{"for outages", Options{LastKnownGood: hour, MountMaxAge: minute}, latestKey, []time.Duration{minute}, nil, hour},
		{"pinned", Options{}, pinnedKey, []time.Duration{5 * minute}, nil, 5*minute + CallTime},
		{"no volume is left", Options{MountMaxAge: minute}, latestKey, []time.Duration{hour}, web, minute},
		{"no volume is left, pinned", Options{MountMaxAge: minute}, pinnedKey, []time.Duration{hour}, web, minute},
		{"no volume is left, and no other use", Options{}, latestKey, []time.Duration{hour}, web, 0},
		{"no volume of another identity is left", Options{}, latestKey, []time.Duration{hour}, other, hour + CallTime},
	} {
		cache, clock := newCache(t, test.options)
		for _, interval := range test.intervals {
			cache.Store(test.key, Demand{Interval: interval}, Result[text]{Value: "value", At: clock.now})
		}
		if test.depart != nil {
			cache.Depart(test.depart)
		}
		if test.keep > 0 {
			clock.pass(test.keep - 1)
			if bytes := cache.Tidy(); bytes != 0 || cache.Size() != entryBytes+len("value") {
				t.Errorf("%s: %d bytes are gone after %v", test.name, bytes, test.keep-1)
			}
			clock.pass(1)
		}
		if bytes := cache.Tidy(); bytes != entryBytes+len("value") || cache.Size() != 0 || cache.recent.Len() != 0 {
			t.Errorf("%s: %d bytes are gone after %v, %d are left", test.name, bytes, test.keep, cache.Size())
		}
	}
}

// A pinned version stays while it is used, any other value while it is young.
func TestRetentionOfWhatIsUsed(t *testing.T) {
	t.Parallel()
	const interval = 5 * time.Minute
	for _, key := range []Key{latestKey, pinnedKey} {
		cache, clock := newCache(t, Options{})
		cache.Store(key, Demand{Interval: interval}, Result[text]{Value: "value", At: clock.now})
		for range 10 {
			clock.pass(interval)
			cache.Find(key, Demand{Refresh: true, Interval: interval})
			cache.Tidy()
		}
		if _, ok := cache.Last(key); ok != (key.Version != "") {
			t.Errorf("version %q is kept: %t", key.Version, ok)
		}
	}
}

// A new volume after the last one counts again.
func TestUseAfterDepart(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{MountMaxAge: time.Minute})
	demand := Demand{Interval: time.Hour}
	cache.Store(latestKey, demand, Result[text]{Value: "value", At: clock.now})
	cache.Depart(func(any) bool { return true })
	if _, hit := cache.Find(latestKey, demand); !hit {
		t.Error("a first mount finds nothing")
	}
	clock.pass(time.Hour)
	if bytes := cache.Tidy(); bytes != 0 {
		t.Errorf("%d bytes are gone", bytes)
	}
}

// Store drops old values too, without Tidy.
func TestStoreTidies(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{})
	cache.Store(latestKey, Demand{}, Result[text]{Value: "value", At: clock.now})
	clock.pass(CallTime)
	cache.Store(pinnedKey, Demand{}, Result[text]{Value: "value", At: clock.now})
	if _, ok := cache.Last(latestKey); ok {
		t.Error("it is kept")
	}
}

// A refused identity loses the values that match. The failures of other objects stay.
func TestRevoke(t *testing.T) {
	t.Parallel()
	cache, clock := newCache(t, Options{MountMaxAge: time.Hour, LastKnownGood: time.Hour})
	for name, tenant := range map[string]string{"a": "contoso", "b": "fabrikam"} {
		cache.Store(Key{Identity: "web", Name: name}, Demand{}, Result[text]{Value: "value", At: clock.now, Tenant: tenant})
	}
	cache.Revoke(func(key Key, tenant string) bool { return key.Identity == "web" && tenant == "contoso" })
	for name, want := range map[string]bool{"a": false, "b": true} {
		key := Key{Identity: "web", Name: name}
		_, found := cache.Find(key, Demand{})
		_, known := cache.LastKnown(key, Demand{})
		if _, last := cache.Last(key); found != want || known != want || last != want {
			t.Errorf("%s: found %t, last known %t, last %t; want %t", name, found, known, last, want)
		}
	}
	if size := cache.Size(); size != 2*entryBytes+len("value") {
		t.Errorf("%d bytes", size)
	}
}

// The bytes are bounded. The least recently used value is dropped first. The newest stays, however large it is.
func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	const each = entryBytes // and as much for the entry
	cache, clock := newCache(t, Options{MountMaxAge: time.Hour, Bytes: 4 * (each + entryBytes)})
	key := func(name string) Key { return Key{Identity: "web", Name: name} }
	store := func(name string, bytes int) {
		cache.Store(key(name), Demand{}, Result[text]{Value: text(strings.Repeat("x", bytes)), At: clock.now})
	}
	left := func() string {
		var names []string
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			if _, ok := cache.Last(key(name)); ok {
				names = append(names, name)
			}
		}
		return strings.Join(names, "")
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		store(name, each)
	}
	if names := left(); names != "abcd" || cache.Size() != 4*(each+entryBytes) {
		t.Fatalf("%s are left, of %d bytes", names, cache.Size())
	}
	if _, hit := cache.Find(key("a"), Demand{}); !hit {
		t.Fatal("a is gone")
	}
	for _, step := range []struct {
		name      string
		bytes     int
		left      string
		evictions float64
	}{
		{"e", each, "acde", 1},
		{"c", 1, "acde", 1},
		{"d", 2*each - 1, "acde", 1},
		{"f", 1, "cdef", 2},
		{"b", 100 * each, "b", 6},
	} {
		store(step.name, step.bytes)
		if names, evictions := left(), testutil.ToFloat64(cache.metrics.evictions); names != step.left || evictions != step.evictions {
			t.Errorf("after %s of %d bytes %q are left after %v evictions, want %q after %v",
				step.name, step.bytes, names, evictions, step.left, step.evictions)
		}
	}
}
