package keyvault

import (
	"fmt"
	"testing"
	"time"
	"unique"
)

// A gate that stands open and knows nothing goes when the calls that have used it are over; one that was closed stays.
func TestGatesThatKnowNothingGo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := &gates{now: func() time.Time { return now }, after: time.After, seen: map[string]*idle[*gate]{}}
	g.of("https://named.vault.azure.net")
	closed := g.of("https://throttled.vault.azure.net")
	closed.close(0, time.Minute, true)
	for _, step := range []struct {
		after time.Duration
		left  int
	}{{callTime, 2}, {time.Second, 1}, {idleLogin, 0}} {
		now = now.Add(step.after)
		if g.sweep(now.Add(-idleLogin)); len(g.seen) != step.left {
			t.Errorf("%v later %d gates are left, want %d", step.after, len(g.seen), step.left)
		}
	}
}

// What is remembered of volumes is bounded, and what is remembered of small ones does not depend on the others.
func TestHeldObjectsAreBounded(t *testing.T) {
	t.Parallel()
	c := newCache(Options{Now: time.Now, CacheBytes: defaultCacheBytes}, func() {})
	held := func(n int) (h holding) {
		for range n {
			h.objects = append(h.objects, heldObject{entry: &entry{}})
		}
		h.owner = owner{identity: unique.Make(credentialKey{}), pod: podKey{uid: "pod"}}
		return h
	}
	for i := range 10 {
		c.hold(fmt.Sprint("large-", i), held(4096))
	}
	if c.held > maxHeld {
		t.Errorf("%d objects are remembered, more than %d", c.held, maxHeld)
	}
	c.hold("small", held(small))
	if n := len(c.volumes["small"].objects); n != small {
		t.Errorf("of a small volume %d objects are remembered, want %d", n, small)
	}
	for volume := range c.volumes {
		c.hold(volume, holding{})
	}
	if c.held != 0 || len(c.volumes) != 0 {
		t.Errorf("%d objects of %d volumes are left", c.held, len(c.volumes))
	}
}
