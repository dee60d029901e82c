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
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

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
				before := w.AtRest(t)
				neighbours := w.startNeighbours(t, p)
				for range rounds {
					cells.Add(int64(w.matrix(t, faultsAt(p.name), &slowest)))
				}
				neighbours.stop(t)
				after := w.AwaitRest(t, before)
				suite.Verdict(t, "%s: goroutines %d before, %d after; descriptors %d, %d; mounts %d, %d", t.Name(),
					before.Goroutines, after.Goroutines, before.Descriptors, after.Descriptors, before.Mounts, after.Mounts)
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
