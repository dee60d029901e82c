package keyvault

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// turns lets so many work at the same time, and the namespaces take turns: one that waits for hundreds of certificates goes
// before another's only one once at most for each that works. It is start-time fair queueing, in which every decoding counts
// the same. https://doi.org/10.1109/90.649569
type turns struct {
	mu      sync.Mutex
	free    int
	round   int            // of the last turn that was given
	rounds  map[string]int // the last that a namespace was promised
	waiting []*waiter      // in the order in which they came
}

type waiter struct {
	namespace string
	round     int
	given     chan struct{}
}

func newTurns(free int) *turns { return &turns{free: free, rounds: map[string]int{}} }

// take waits for a turn, at most as long as ctx lasts. Whoever has taken one gives it back.
func (t *turns) take(ctx context.Context, namespace string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	mine := &waiter{namespace: namespace, round: max(t.round, t.rounds[namespace]) + 1, given: make(chan struct{})}
	t.rounds[namespace] = mine.round
	t.waiting = append(t.waiting, mine)
	t.next()
	t.mu.Unlock()
	select {
	case <-mine.given:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, mine); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		t.moveUp(mine)
	} else { // it was given at the same moment
		t.free++
		t.next()
	}
	return ctx.Err()
}

// moveUp gives the rounds of one that has given up, and those after it, to the others of its namespace: else who gives up
// often would never have a turn beside who does not. The caller holds mu.
func (t *turns) moveUp(gone *waiter) {
	for _, w := range t.waiting {
		if w.namespace == gone.namespace && w.round > gone.round {
			w.round--
		}
	}
	t.rounds[gone.namespace]--
	t.next() // which forgets what is over
}

func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	t.next()
}

// next gives the free turns to those of the earliest round. The caller holds mu.
func (t *turns) next() {
	for t.free > 0 && len(t.waiting) > 0 {
		first := 0
		for i, w := range t.waiting {
			if w.round < t.waiting[first].round {
				first = i
			}
		}
		w := t.waiting[first]
		t.waiting = slices.Delete(t.waiting, first, first+1)
		t.round = max(t.round, w.round)
		t.free--
		close(w.given)
	}
	maps.DeleteFunc(t.rounds, func(_ string, last int) bool { return last <= t.round })
}
