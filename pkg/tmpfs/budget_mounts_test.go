package tmpfs_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What somebody has unmounted by hand is given back when the kubelet removes the volume, or has it mounted again.
func TestBudgetOfWhatOthersUnmount(t *testing.T) {
	t.Parallel()
	ways(t, limited(20*mib), func(t *testing.T, f fixture) {
		f.publish(t, big(0))
		one := f.Budget().Volumes
		detach(f.target)
		other := f.newTarget(t, "other") // gets the number of the device that went
		if _, err := f.Publish(t.Context(), volume.Mount{Target: other}, big(0)); err != nil {
			t.Fatal(err)
		}
		mountTmpfs(t, filepath.Join(f.root, "foreign")) // and this one the next that is free
		defer detach(filepath.Join(f.root, "foreign"))
		f.publish(t, big(0))
		if got := f.Budget().Volumes; got != 2*one {
			t.Errorf("two volumes are mounted, and take %d bytes; one takes %d", got, one)
		}
		detach(f.target)
		if err := f.Unpublish(f.target); err != nil {
			t.Fatal(err)
		}
		if got := f.Budget().Volumes; got != one {
			t.Errorf("one volume is mounted, and takes %d bytes, want %d", got, one)
		}
		if err := f.Unpublish(other); err != nil {
			t.Fatal(err)
		}
		if got := f.Budget().Volumes; got != 0 {
			t.Errorf("no volume is mounted, and they take %d bytes", got)
		}
	})
}

// Volumes that come and go at the same time get each other's device numbers, and no volume loses its place in the count by that.
func TestBudgetOfDevicesThatComeBack(t *testing.T) {
	t.Parallel()
	ways(t, limited(200*mib), func(t *testing.T, f fixture) {
		var all sync.WaitGroup
		for i := range 8 {
			target := f.newTarget(t, fmt.Sprint("v", i))
			all.Go(func() {
				for range suite.Rounds(50, 200) {
					if _, err := f.Publish(t.Context(), volume.Mount{Target: target}, content("a", "1")); err != nil {
						t.Error(err)
					}
					if err := f.Unpublish(target); err != nil {
						t.Error(err)
					}
				}
				if _, err := f.Publish(t.Context(), volume.Mount{Target: target}, content("a", "1")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		last := f.Budget().Volumes
		f.publish(t, content("a", "1"))
		if one := f.Budget().Volumes - last; last != 8*one {
			t.Errorf("8 volumes are mounted, and take %d bytes; one takes %d", last, one)
		}
	})
}

// A container that has a whole volume by subPath has it mounted twice. A new process counts it once, and no longer when it is removed.
func TestBudgetOfAMountOfAMount(t *testing.T) {
	t.Parallel()
	ways(t, limited(20*mib), func(t *testing.T, f fixture) {
		f.publish(t, big(0))
		bind(t, f.target, filepath.Join(f.root, "pods", "subpath"))
		o := limited(20 * mib)
		o.KubeletRoot = f.root
		next, err := tmpfs.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := next.Budget().Volumes; got < mib/2 || got > mib {
			t.Errorf("one volume of 0.5 MiB takes %d bytes", got)
		}
		if err := next.Unpublish(f.target); err != nil {
			t.Fatal(err)
		}
		if got := next.Budget().Volumes; got != 0 {
			t.Errorf("no volume is mounted, and they take %d bytes", got)
		}
	})
}

// The kernel lets a mount have no source, which leaves a field of its entry empty (kubernetes/kubernetes#66134). A new process counts the
// volumes all the same.
func TestBudgetBesideAMountWithoutSource(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
	f.publish(t, big(0))
	nameless := filepath.Join(f.root, "nameless")
	mkdir(t, nameless)
	if err := unix.Mount("", nameless, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer detach(nameless)
	o := limited(20 * mib)
	o.KubeletRoot = f.root
	next, err := tmpfs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Budget().Volumes; got < mib/2 {
		t.Errorf("one volume of 0.5 MiB takes %d bytes", got)
	}
}
