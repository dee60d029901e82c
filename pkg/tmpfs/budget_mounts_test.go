package tmpfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The memory of a volume that was unmounted by hand is released when the kubelet unpublishes or publishes it.
func TestBudgetOfWhatOthersUnmount(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
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
}

// Volumes that are mounted and unmounted at the same time reuse device numbers. All are counted.
func TestBudgetOfDevicesThatComeBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(200*mib))
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
}

// A container that mounts a whole volume by subPath mounts it twice. A new process counts it once, until it is removed.
func TestBudgetOfAMountOfAMount(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
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

// A new process counts what the one before has mounted, and nothing else.
func TestBudgetAfterARestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(20*mib))
	for name, c := range map[string]volume.Content{
		"small": content("a", "1", "b/c", "2"), "long": content(strings.Repeat("n", 250), "1"), "empty": content(), "page": content("a", strings.Repeat("x", 4096)),
	} {
		if _, err := f.Publish(t.Context(), volume.Mount{Target: f.newTarget(t, name)}, c); err != nil {
			t.Fatal(err)
		}
	}
	targets, refused, _ := f.mountAll(t, "v")
	mountTmpfs(t, filepath.Join(f.root, "foreign"))
	defer detach(filepath.Join(f.root, "foreign"))
	before := f.Budget()
	attributes := int64(len(targets)+4) * 8 << 10 // more than those of a volume and of its set, which a user namespace does not have

	o := limited(20 * mib)
	o.KubeletRoot = f.root
	if err := os.Symlink(f.root, f.root+"-link"); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{f.root, f.root + "-link"} {
		o.KubeletRoot = root
		next, err := tmpfs.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := next.Budget().Volumes; got > before.Volumes || got < before.Volumes-attributes {
			t.Errorf("the volumes take %d bytes, before the restart %d", got, before.Volumes)
		}
		if _, err := next.Publish(t.Context(), volume.Mount{Target: strings.Replace(refused, f.root, root, 1)}, big(0)); err == nil {
			t.Error("after the restart one more volume is mounted")
		}
		if err := next.Unpublish(strings.Replace(targets[0], f.root, root, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := next.Publish(t.Context(), volume.Mount{Target: strings.Replace(targets[0], f.root, root, 1)}, big(1)); err != nil {
			t.Error(err)
		}
	}
}

// A new process counts the volumes of the one before and not those of another driver, whose volumes it unmounts if it is asked. A volume
// without a source, as earlier versions have made them for each driver, is of the default driver, until another one has refreshed it.
func TestBudgetOfTwoDrivers(t *testing.T) {
	t.Parallel()
	o := limited(20 * mib)
	first := newFixture(t, o)
	o.KubeletRoot, o.Source = first.root, "second.example"
	restart := func(source string) *tmpfs.Store {
		t.Helper()
		o.Source = source
		s, err := tmpfs.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	other, old := first.newTarget(t, "other"), first.newTarget(t, "old")
	second := restart("second.example")
	first.publish(t, big(0))
	one := first.Budget().Volumes
	for range 2 { // the second time there is nothing to do
		if _, err := second.Publish(t.Context(), volume.Mount{Target: other}, big(0)); err != nil {
			t.Fatal(err)
		}
	}
	if got := sourceOf(t, first.target) + " " + sourceOf(t, other); got != "tmpfs second.example" {
		t.Errorf("the sources of the two volumes are %q", got)
	}
	if _, err := first.Publish(t.Context(), volume.Mount{Target: old}, big(0)); err != nil {
		t.Fatal(err)
	}
	near := func(s *tmpfs.Store, what string, want int64) {
		t.Helper()
		if got := s.Budget().Volumes; got > want || got < want-32<<10 { // attributes, which a user namespace does not have
			t.Errorf("%s: the volumes take %d bytes, want %d", what, got, want)
		}
	}
	near(restart(""), "the first after a restart", 2*one)
	second = restart("second.example")
	near(second, "the second after a restart", one)
	if _, err := second.Publish(t.Context(), volume.Mount{Target: old}, big(1)); err != nil {
		t.Fatal(err)
	}
	near(second, "the second after it has refreshed the old one", 2*one)
	for _, target := range []string{first.target, other, old} {
		if err := second.Unpublish(target); err != nil || exists(target) {
			t.Errorf("the second unpublishes %s: %v", target, err)
		}
	}
	near(second, "the second without volumes", 0)
	near(restart(""), "the first after a restart without volumes", 0)
}

// sourceOf returns the source of the mount at path.
func sourceOf(t *testing.T, path string) string {
	t.Helper()
	entries, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d mounts at %s, %v", len(entries), path, err)
	}
	return entries[0].Source
}

// Without a limit everything is mounted, and counted.
func TestNoBudget(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]tmpfs.Options{"not asked for": {}, "no limit": {Memory: func() tmpfs.Memory { return tmpfs.Memory{Process: mib} }}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, o)
			f.publish(t, big(0))
			f.publish(t, big(1))
			if b := f.Budget(); b.Limit != 0 || b.Volumes < mib/2 || b.Volumes > mib || b.Used < b.Volumes {
				t.Errorf("%+v", b)
			}
			if err := f.Unpublish(f.target); err != nil {
				t.Fatal(err)
			}
			if b := f.Budget(); b.Volumes != 0 {
				t.Errorf("nothing is mounted: %+v", b)
			}
		})
	}
}
