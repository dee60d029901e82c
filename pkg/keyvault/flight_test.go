package keyvault

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A fetch is ended by the last who leaves it, and by nobody before: what it waits for would go on for nobody.
func TestTheLastToLeaveEndsTheFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		defer pass(flightTimeout) // for what has not ended
		c := newCache(Options{Now: time.Now, CacheBytes: defaultCacheBytes}, func() {})
		var key entryKey
		var ended error
		fetch := func(ctx context.Context, _ *flight) result {
			<-ctx.Done()
			ended = ctx.Err()
			return result{at: time.Now(), failed: &failure{err: ended, waited: theVault}}
		}
		_, first, started := c.ask(t.Context(), key, demand{}, false, fetch)
		_, second, joined := c.ask(t.Context(), key, demand{}, false, fetch)
		if !started || joined || first != second {
			t.Fatalf("two fetches for one object: %t, %t", started, joined)
		}
		c.leave(key, first)
		synctest.Wait()
		if ended != nil {
			t.Fatalf("ended while somebody waits: %v", ended)
		}
		c.leave(key, second)
		synctest.Wait() // no time passes: it is not flightTimeout that ends it
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("after the last has left the fetch says %v, want that it was canceled", ended)
		}
		if _, known := c.entries[key]; known {
			t.Error("a fetch that was given up counts as an answer")
		}
	})
}
