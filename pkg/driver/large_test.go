package driver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// crowded takes both places of the large volumes. They move, so that they keep them for the longest time.
func crowded(ctx context.Context, t *testing.T, a *admission) {
	t.Helper()
	for i := range mostLarge {
		ctx, p, err := a.enter(ctx, fmt.Sprint("large-", i), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Hold(ctx, 2*namespaceBytes); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer p.leave()
			for err := error(nil); err == nil; err = p.Hold(ctx, 1) {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
			}
		}()
	}
}

// Volumes that are small each, and more than the share together, wait for none but themselves.
func TestSmallVolumesDoNotWaitForLargeOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		ctx, end := context.WithCancel(t.Context())
		crowded(ctx, t, a)
		began := time.Now()
		const many, parts = 40, 4
		ended := make(chan error)
		for range many {
			p := enter(t, a, "shop")
			go func() {
				defer p.leave()
				var err error
				for range parts {
					err = errors.Join(err, p.Hold(t.Context(), 5<<10))
					time.Sleep(time.Millisecond) //nolint:forbidigo // in a bubble, where time is not real
				}
				ended <- err
			}()
		}
		for range many {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took >= largeTick {
			t.Errorf("%v, as if they waited for a large volume", took)
		}
		end()
		synctest.Wait()
		if len(a.namespaces) != 0 {
			t.Errorf("left behind: %v", a.namespaces)
		}
	})
}

// One that has waited for a place and needs none any more, or has given up, does not stand before those behind it.
func TestWhoNeedsNoPlaceIsNotInTheWay(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]func(another *admitted, giveUp func()){
		"room in its namespace": func(another *admitted, _ func()) { another.leave() },
		"given up":              func(_ *admitted, giveUp func()) { giveUp() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission()
				ctx, end := context.WithCancel(t.Context())
				crowded(ctx, t, a)
				first, another := enter(t, a, "shop"), enter(t, a, "shop")
				if err := another.Hold(t.Context(), namespaceBytes-4*entryBytes); err != nil {
					t.Fatal(err)
				}
				waits, giveUp := context.WithCancel(t.Context())
				held := make(chan error)
				go func() { held <- first.Hold(waits, smallBytes+1) }()
				synctest.Wait()
				over(another, giveUp)
				<-held // and now its vault hangs
				next := enter(t, a, "next")
				end() // both places are free
				synctest.Wait()
				soon, cancel := context.WithTimeout(t.Context(), 2*largeTick)
				defer cancel()
				if err := next.Hold(soon, 2*namespaceBytes); err != nil {
					t.Errorf("the next does not become a large one: %v", err)
				}
				giveUp()
			})
		})
	}
}
