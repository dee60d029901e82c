package tmpfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const mib = 1 << 20

// limited is a driver that may use 10 MiB for itself. The count of the kernel is not known.
func limited(limit int64) tmpfs.Options {
	return tmpfs.Options{Memory: func() tmpfs.Memory {
		return tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: limit}}, Process: 10 * mib}
	}}
}

// big is a set of a little more than half a MiB, another one in each generation.
func big(generation int) volume.Content {
	return content("big", strings.Repeat(fmt.Sprint(generation%10), mib/2))
}

func noMemory(target, doing, need, taken, limit string) string {
	return fmt.Sprintf("%s %q: no memory is left for it on this node: it takes %s MiB, and %s of the driver's %s MiB are taken by mounted volumes, "+
		"their refreshes and the driver itself; raise resources.limits.memory of the driver, or lower what pods of this node mount",
		doing, target, need, taken, limit)
}

// mountAll mounts volumes until one is refused, and returns their targets and the error.
func (f fixture) mountAll(t *testing.T, name string) (targets []string, refused string, err error) {
	t.Helper()
	for i := range 100 {
		target := f.newTarget(t, fmt.Sprint(name, i))
		if _, err = f.Publish(t.Context(), volume.Mount{Target: target}, big(0)); err != nil {
			return targets, target, err
		}
		targets = append(targets, target)
	}
	t.Fatal("100 volumes were mounted")
	return nil, "", nil
}

func (f fixture) rotate(ctx context.Context, target string, c volume.Content) error {
	o, err := f.Publish(ctx, volume.Mount{Target: target}, c)
	if err == nil && !o.Changed {
		err = fmt.Errorf("the volume at %s has not changed", target)
	}
	return err
}

// The sum of all volumes, the reserve for a refresh and what the process may use stay within the limit.
func TestBudgetOfNewVolumes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		memory       tmpfs.Memory
		mounted      int
		taken, limit string
	}{
		"by what is mounted":         {tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 20 * mib}}, Process: 10 * mib}, 17, "20", "20"},
		"of a process that is large": {tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 20 * mib}}, Process: 10 * mib, Resident: 11 * mib}, 8, "20", "20"},
		"by the smallest limit": {
			tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 30 * mib}, {Bytes: 20 * mib}, {Bytes: 25 * mib}}, Process: 10 * mib}, 17, "20", "20",
		},
		"by what the kernel counts": {
			tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 20 * mib}, {Bytes: 40 * mib, Used: 33 * mib}}, Process: 10 * mib, Resident: 3 * mib}, 0, "41", "40",
		},
		"the process is counted already": {
			tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 20 * mib, Used: 14 * mib}}, Process: 10 * mib, Resident: 6 * mib}, 17, "20", "20",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{Memory: func() tmpfs.Memory { return tt.memory }})
			targets, refused, err := f.mountAll(t, "v")
			wantError(t, err, volume.ErrTooLarge, noMemory(refused, "mount a volume at", "1", tt.taken, tt.limit))
			if exists(refused) {
				t.Errorf("%s is left", refused)
			}
			if len(targets) != tt.mounted {
				t.Errorf("%d volumes are mounted, want %d", len(targets), tt.mounted)
			}
			if len(targets) == 0 {
				return
			}
			if err := f.Unpublish(targets[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Publish(t.Context(), volume.Mount{Target: refused}, big(0)); err != nil {
				t.Errorf("one is unmounted, and the next is refused: %v", err)
			}
		})
	}
}

// Concurrent calls cannot all claim the memory that is left for one.
func TestBudgetOfManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
	var all sync.WaitGroup
	var mounted atomic.Int32
	for i := range 40 {
		target := f.newTarget(t, fmt.Sprint("v", i))
		all.Go(func() {
			if _, err := f.Publish(t.Context(), volume.Mount{Target: target}, big(0)); err == nil {
				mounted.Add(1)
			}
		})
	}
	all.Wait()
	if n := mounted.Load(); n != 17 {
		t.Errorf("%d volumes are mounted, want 17", n)
	}
}

// With a full budget, mounted volumes are refreshed, also concurrently; a larger set is refused as a new volume is.
func TestBudgetOfRefreshes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
	targets, newcomer, _ := f.mountAll(t, "v")
	var all sync.WaitGroup
	for i, target := range targets {
		all.Go(func() {
			for round := range 4 {
				if err := f.rotate(t.Context(), target, big(round+i%2+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()

	before := tree(t, targets[0])
	err := f.rotate(t.Context(), targets[0], content("big", strings.Repeat("x", mib)))
	wantError(t, err, volume.ErrTooLarge, noMemory(targets[0], "rotate the volume at", "2", "20", "20"))
	if !slices.Equal(tree(t, targets[0]), before) {
		t.Error("the volume has changed")
	}
	if err := f.rotate(t.Context(), targets[1], content("small", "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Publish(t.Context(), volume.Mount{Target: newcomer}, big(0)); err != nil {
		t.Errorf("one is small now, and the next is refused: %v", err)
	}
}

// If the kernel has memory for one more set and not for two, refreshes write one after another. With less they are refused.
//
// Other tests start programs, which for a moment hold copies of all descriptors of this process. A set that one of them holds open
// needs memory of its own. So this test runs alone.
func TestBudgetOfRefreshesAtOnce(t *testing.T) {
	var used atomic.Int64
	f := newFixture(t, tmpfs.Options{Memory: func() tmpfs.Memory {
		return tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 40 * mib, Used: used.Load()}}, Process: 11 * mib, Resident: mib}
	}})
	var targets []string
	for i := range 8 {
		targets = append(targets, f.newTarget(t, fmt.Sprint("v", i)))
		if _, err := f.Publish(t.Context(), volume.Mount{Target: targets[i]}, big(0)); err != nil {
			t.Fatal(err)
		}
	}
	used.Store(35 * mib) // of the rest, 4 MiB stay free in any case
	var all sync.WaitGroup
	for _, target := range targets {
		all.Go(func() {
			for round := range 10 {
				if err := f.rotate(t.Context(), target, big(round+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	used.Store(36 * mib)
	wantError(t, f.rotate(t.Context(), targets[0], big(5)), volume.ErrTooLarge, noMemory(targets[0], "rotate the volume at", "1", "40", "40"))
}

// A container that uses the old set makes its volume larger by one set, which may be refused; other volumes are refreshed.
func TestBudgetOfSetsInUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
	targets, _, _ := f.mountAll(t, "v")
	open, err := os.Open(filepath.Join(targets[0], "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	err = f.rotate(t.Context(), targets[0], big(1))
	wantError(t, err, volume.ErrTooLarge, noMemory(targets[0], "rotate the volume at", "1", "20", "20"))
	if err := f.rotate(t.Context(), targets[1], big(1)); err != nil {
		t.Error(err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.rotate(t.Context(), targets[0], big(1)); err != nil {
		t.Error(err)
	}
}

// Unpublish does not wait for a call that waits for memory.
func TestBudgetDoesNotBlockUnpublish(t *testing.T) {
	t.Parallel()
	asked, goOn := make(chan struct{}, 1), make(chan struct{})
	var blocked atomic.Bool
	o := tmpfs.Options{Memory: func() tmpfs.Memory {
		if blocked.Load() {
			asked <- struct{}{}
			<-goOn
		}
		return tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 20 * mib}}}
	}}
	f := newFixture(t, o)
	f.publish(t, content("a", "1"))
	other := f.newTarget(t, "other")
	blocked.Store(true)
	done := make(chan error)
	go func() {
		_, err := f.Publish(t.Context(), volume.Mount{Target: other}, content("a", "1"))
		done <- err
	}()
	<-asked
	if err := f.Unpublish(f.target); err != nil {
		t.Error(err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
