// Package faults_test tests the daemon with everything that can fail between a node and its vaults.
//
// It runs the daemon that users get, as a process, with its socket, real mounts and a dev cloud with injected faults. Each fault of the
// table is present during each of five calls of the kubelet. The daemon's promises:
//
//   - A first publish fails with the code and the exact text of the table, within the volume's timeout, and leaves nothing behind.
//   - A refresh of a young set answers OK, of an old set Unavailable. Both leave the files unchanged, byte for byte, and report the
//     reason in the volume's health.
//   - When the fault is over the next call succeeds, without a restart of the daemon.
//   - At the end the daemon has no more goroutines, descriptors and mounts than before.
//
// docs/faults.md has the table for users; a test compares the two.
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

// TestFaults is the whole matrix, with one daemon for each setup of the table.
func TestFaults(t *testing.T) {
	rounds := suite.Rounds(1, 2)
	var cells atomic.Int64
	var slowest slowest
	var group errgroup.Group // and not t.Parallel: they mostly wait
	for _, p := range setups {
		group.Go(func() error {
			t.Run(p.name, func(t *testing.T) {
				fx := p.start(t)
				before := fx.AtRest(t)
				healthyVolumes := fx.startHealthy(t, p)
				for range rounds {
					cells.Add(int64(fx.matrix(t, faultsOf(p.name), &slowest)))
				}
				healthyVolumes.stop(t)
				after := fx.AwaitRest(t, before)
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

// matrix runs the faults in random order, in parallel where they allow it.
func (fx *fixture) matrix(t *testing.T, faults []fault, slowest *slowest) (cells int) {
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	t.Run("faults", func(t *testing.T) {
		var group errgroup.Group
		group.SetLimit(fx.atOnce)
		for _, f := range faults {
			if !f.alone {
				group.Go(func() error {
					t.Run(f.name, func(t *testing.T) { fx.row(t, f, slowest) })
					return nil
				})
			}
		}
		_ = group.Wait()
		for _, f := range faults {
			if f.alone {
				t.Run(f.name, func(t *testing.T) { fx.row(t, f, slowest) })
			}
		}
	})
	return len(faults) * len(calls)
}

// row is one fault, with all calls at the same time.
func (fx *fixture) row(t *testing.T, f fault, slowest *slowest) {
	var cells []*cell
	for _, call := range calls {
		cells = append(cells, fx.newCell(t, f, call))
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
			c.remove()
		}
	}()
	each((*cell).prepare)
	clear := sync.OnceFunc(f.inject(fx, cells))
	defer clear()
	each(func(c *cell) { slowest.add(c.checkDuring()) })
	clear()
	each((*cell).checkAfter)
}
