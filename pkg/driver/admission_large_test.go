package driver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// takeLargeSlots takes all large slots. They are kept for the longest time, because the publishes progress.
func takeLargeSlots(ctx context.Context, t *testing.T, a *admission) {
	t.Helper()
	for i := range largeSlots {
		ctx, p, err := a.admit(ctx, fmt.Sprint("large-", i), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Hold(ctx, 2*namespaceBytes); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer p.release()
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

// Small volumes that together exceed the share of their namespace wait only for each other.
func TestSmallVolumesDoNotWaitForLargeOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		ctx, end := context.WithCancel(t.Context())
		takeLargeSlots(ctx, t, a)
		began := time.Now()
		const many, parts = 40, 4
		ended := make(chan error)
		for range many {
			p := admit(t, a, "shop")
			go func() {
				defer p.release()
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
		if took := time.Since(began); took >= largePoll {
			t.Errorf("%v, as if they waited for a large volume", took)
		}
		end()
		synctest.Wait()
		if len(a.namespaces) != 0 {
			t.Errorf("left behind: %v", a.namespaces)
		}
	})
}

// A publish that waited for a large slot and does not need it any more, or has given up, does not block those behind it.
func TestTheQueueForLargeSlotsIsLeft(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]func(another *reservation, giveUp func()){
		"memory in its namespace": func(another *reservation, _ func()) { another.release() },
		"given up":                func(_ *reservation, giveUp func()) { giveUp() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission()
				ctx, end := context.WithCancel(t.Context())
				takeLargeSlots(ctx, t, a)
				first, another := admit(t, a, "shop"), admit(t, a, "shop")
				if err := another.Hold(t.Context(), namespaceBytes-4*entryBytes); err != nil {
					t.Fatal(err)
				}
				waits, giveUp := context.WithCancel(t.Context())
				held := make(chan error)
				go func() { held <- first.Hold(waits, smallBytes+1) }()
				synctest.Wait()
				over(another, giveUp)
				<-held // and now its vault hangs
				next := admit(t, a, "next")
				end() // both slots are free
				synctest.Wait()
				soon, cancel := context.WithTimeout(t.Context(), 2*largePoll)
				defer cancel()
				if err := next.Hold(soon, 2*namespaceBytes); err != nil {
					t.Errorf("the next gets no large slot: %v", err)
				}
				giveUp()
			})
		})
	}
}
