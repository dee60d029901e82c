package keyvault

import (
	"context"
	"sync"
	"testing"
)

// Those who give up have had no turn: their namespace does not wait for others as if they had.
func TestGivingUpCostsNoTurn(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(1)
	if err := d.turns.take(t.Context(), "busy"); err != nil { // works
		t.Fatal(err)
	}
	impatient, end := context.WithCancel(t.Context())
	var gaveUp sync.WaitGroup
	for range 100 {
		gaveUp.Go(func() { _ = d.turns.take(impatient, "quiet") })
	}
	d.queued(t, 100)
	var order []string
	var group sync.WaitGroup
	wait := func(namespace string, waiting int) {
		group.Go(func() {
			if err := d.turns.take(t.Context(), namespace); err != nil {
				t.Error(err)
			}
			order = append(order, namespace) // who has the one turn
			d.turns.give()
		})
		d.queued(t, waiting)
	}
	wait("quiet", 101) // promised what comes after all of them
	end()
	gaveUp.Wait()
	for i := range 10 {
		wait("busy", 2+i)
	}
	wait("quiet", 12)
	d.turns.give()
	group.Wait()
	if order[0] != "quiet" || order[3] != "quiet" { // in the second round whoever came first is the first
		t.Errorf("the quiet namespace waits for what it has not had: %v", order)
	}
	if len(d.turns.rounds) != 0 || d.turns.free != 1 {
		t.Errorf("left behind: %v, %d free", d.turns.rounds, d.turns.free)
	}
}
