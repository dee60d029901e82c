// Package faults_test holds the daemon against everything that can go wrong between a node and its vaults.
//
// It stands at the front door: the daemon that users get, as a process, its socket and real mounts, and a cloud that is
// told to fail. Each fault of the table meets each of five calls that the kubelet makes. What the daemon must keep to:
//
//   - A first publish fails with the code and the exact text of the table, before the time of the volume is over, and
//     leaves nothing behind.
//   - A refresh of a set that is still young answers OK, and one of a set that is too old Unavailable; both leave the
//     files as they are, byte for byte, and tell the reason in the volume's health.
//   - Whatever the fault was, when it is over the next call succeeds. The daemon is not restarted.
//   - In the end the daemon has no goroutine, no descriptor and no mount more than before.
//
// The table is also what docs/faults.md tells users; a test holds the two together.
package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(node.Networked{M: m})) }

// TestFaults is the whole matrix, one daemon for each place of the table.
func TestFaults(t *testing.T) {
	rounds := suite.Rounds(1, 3)
	var cells atomic.Int64
	var slowest slowest
	var group errgroup.Group // and not t.Parallel: they mostly wait
	for _, p := range places {
		group.Go(func() error {
			t.Run(p.name, func(t *testing.T) {
				w := p.start(t)
				before := w.floor(t)
				neighbours := w.startNeighbours(t, p)
				for range rounds {
					cells.Add(int64(w.matrix(t, faultsAt(p.name), &slowest)))
				}
				neighbours.stop(t)
				w.settles(t, before)
			})
			return nil
		})
	}
	_ = group.Wait()
	if t.Failed() {
		return
	}
	suite.Verdict(t, "fault matrix: %d faults × %d calls, %d cells in all: each with its code, text and files, and over when the fault was; "+
		"the longest call took %v more than its volume's timeout", len(table), len(calls), cells.Load(), slowest.get())
}

// matrix runs faults in random order, those that may together.
func (w *world) matrix(t *testing.T, faults []fault, slowest *slowest) (cells int) {
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	t.Run("faults", func(t *testing.T) {
		var group errgroup.Group
		group.SetLimit(w.atOnce)
		for _, f := range faults {
			if !f.alone {
				group.Go(func() error {
					t.Run(f.name, func(t *testing.T) { w.row(t, f, slowest) })
					return nil
				})
			}
		}
		_ = group.Wait()
		for _, f := range faults {
			if f.alone {
				t.Run(f.name, func(t *testing.T) { w.row(t, f, slowest) })
			}
		}
	})
	return len(faults) * len(calls)
}

// row is one fault: it meets all calls at once.
func (w *world) row(t *testing.T, f fault, slowest *slowest) {
	var cells []*cell
	for _, call := range calls {
		cells = append(cells, w.newCell(t, f, call))
	}
	each := func(do func(*cell)) {
		t.Helper()
		var group errgroup.Group
		for _, c := range cells {
			group.Go(func() error { do(c); return nil })
		}
		_ = group.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	defer func() { // also those that failed
		for _, c := range cells {
			c.leaves()
		}
	}()
	each((*cell).prepare)
	clear := sync.OnceFunc(f.inject(w, cells))
	defer clear()
	each(func(c *cell) { slowest.add(c.meets()) })
	clear()
	each((*cell).recovers)
}

// floor is what the daemon mostly holds in half a second in which nobody wants anything of it. The least would not do: between
// the end of one connection for the metrics and the begin of the next there are two goroutines fewer.
func (w *world) floor(t *testing.T) node.Footprint {
	t.Helper()
	w.disconnect()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var floor node.Footprint
	var goroutines, descriptors []int
	for range 11 {
		floor = w.footprint(t)
		goroutines, descriptors = append(goroutines, floor.Goroutines), append(descriptors, floor.Descriptors)
		<-again.C
	}
	slices.Sort(goroutines)
	slices.Sort(descriptors)
	floor.Goroutines, floor.Descriptors = goroutines[len(goroutines)/2], descriptors[len(descriptors)/2]
	return floor
}

func (w *world) footprint(t *testing.T) node.Footprint {
	t.Helper()
	f, err := w.Footprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// disconnect ends the daemon's connections, from the other side.
func (w *world) disconnect() {
	w.Cloud.Disconnect("")
	if w.relay != nil {
		w.relay.silence(false)
	}
}

// settles waits until the daemon holds no more than before. Its idle connections are ended from the other side: it would
// keep them for minutes, and rightly so.
func (w *world) settles(t *testing.T, before node.Footprint) {
	t.Helper()
	// net/http waits a minute for the answer of a proxy to CONNECT, also when nobody waits for it any more: if a proxy that does not
	// answer was the last fault, its goroutine is there for that long.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		w.disconnect()
		after := w.footprint(t)
		if after.Goroutines <= before.Goroutines && after.Descriptors <= before.Descriptors && after.Mounts <= before.Mounts {
			suite.Verdict(t, "%s: goroutines %d before, %d after; descriptors %d, %d; mounts %d, %d", t.Name(),
				before.Goroutines, after.Goroutines, before.Descriptors, after.Descriptors, before.Mounts, after.Mounts)
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Errorf("the daemon holds more than before:\n%s", fmt.Sprintf("before %+v\nafter  %+v", before, after))
			return
		}
	}
}
