package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A namespace has at most maxGoingOn fetches that go on when their callers have left, whatever it asks for. Others are not affected.
func TestFetchesThatGoOnAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		key := latestKey
		leaves := func(namespace string, i int) *slowFetch {
			f := &slowFetch{takes: 9 * time.Minute}
			key.Name = fmt.Sprint(namespace, i)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _ = c.Get(ctx, key, Demand{GoesOnFor: namespace}, 0, f.fetch)
			synctest.Wait()
			return f
		}
		for _, namespace := range []string{"shop", "bank"} {
			for i := range 2 * maxGoingOn {
				if f := leaves(namespace, i); errors.Is(f.ended, context.Canceled) != (i >= maxGoingOn) {
					t.Errorf("fetch %d of namespace %s: %v", i, namespace, f.ended)
				}
			}
		}
		// Joining one gives its place back while the caller waits.
		for round := range 3 {
			if f := leaves("shop", 0); f.count != 0 {
				t.Errorf("round %d: a fetch that goes on is not joined", round)
			}
		}
		pass(10 * time.Minute) // the last was shop0
		synctest.Wait()
		if len(c.inflight) != 0 || len(c.goingOn) != 0 {
			t.Errorf("%d fetches are left, counted as %v", len(c.inflight), c.goingOn)
		}
		if value, ok := c.Last(key); !ok || value != "v" {
			t.Errorf("the result of a fetch that went on is %q", value)
		}
	})
}

// A fetch that goes on ends when another one replaces it, and its place is free again.
func TestAFetchThatGoesOnIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newSynctestCache(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		older := &slowFetch{takes: 9 * time.Minute}
		_, _ = c.Get(ctx, latestKey, Demand{GoesOnFor: "shop"}, 0, older.fetch)
		newer := &slowFetch{takes: time.Second}
		result, _ := c.Get(t.Context(), latestKey, Demand{GoesOnFor: "shop", NotBefore: time.Now()}, 0, newer.fetch)
		synctest.Wait()
		if result.Value != "v" || newer.count != 1 || !errors.Is(older.ended, context.Canceled) || len(c.goingOn) != 0 {
			t.Errorf("%+v of %d fetches; the older ended with %v, counted %v", result, newer.count, older.ended, c.goingOn)
		}
	})
}
