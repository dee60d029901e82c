package tmpfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// sets counts the sets in the volume.
func sets(t *testing.T, target string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			n++
		}
	}
	return n
}

func (f fixture) subPath(container string, index int) string {
	return filepath.Join(f.pod, "volume-subpaths", "secrets", container, fmt.Sprint(index))
}

// generation is the content of a file: two of them are as large as the limit of these tests.
func generation(n int) string { return strings.Repeat(fmt.Sprint(n), 100<<10) }

// A rotation keeps the sets that a subPath shows, and removes them when no container uses them any more.
func TestSubPathSurvivesRotations(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"tls", "tls/key", "file"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{MaxBytes: 200 << 10, MaxFiles: 2})
			publish := func(n int) { f.publish(t, content("tls/key", generation(n), "file", generation(n))) }
			check := func(path string, n int) {
				t.Helper()
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					path = filepath.Join(path, "key")
				}
				if got := read(t, path); got != generation(n) {
					t.Errorf("%s holds generation %.1q, want %d", path, got, n)
				}
			}
			publish(0)
			app, sidecar := f.subPath("app", 0), f.subPath("sidecar", 3)
			bind(t, filepath.Join(f.target, what), app)
			for n := 1; n < 5; n++ {
				publish(n)
				check(app, 0)
				check(filepath.Join(f.target, "tls"), n)
				if got := sets(t, f.target); got != 2 {
					t.Fatalf("after rotation %d there are %d sets, want the bound one and the current one", n, got)
				}
			}
			// Another container starts, and binds what is current then.
			bind(t, filepath.Join(f.target, what), sidecar)
			for n := 5; n < 8; n++ {
				publish(n)
				check(app, 0)
				check(sidecar, 4)
				if got := sets(t, f.target); got != 3 {
					t.Fatalf("after rotation %d there are %d sets, want 3", n, got)
				}
			}
			// The first one restarts: the kubelet unmounts, and binds anew.
			detach(app)
			bind(t, filepath.Join(f.target, what), app)
			publish(8)
			publish(9)
			check(app, 7)
			check(sidecar, 4)
			if got := sets(t, f.target); got != 3 {
				t.Errorf("after a restart there are %d sets, want 3", got)
			}
			// All end: a refresh without a change is enough to free what they held.
			detach(app)
			detach(sidecar)
			if err := os.RemoveAll(filepath.Join(f.pod, "volume-subpaths", "secrets")); err != nil {
				t.Fatal(err)
			}
			publish(9)
			if got := sets(t, f.target); got != 1 {
				t.Errorf("after the end of all there are %d sets, want 1", got)
			}
		})
	}
}

// If a subPath mount is not visible here, the first set is kept, because containers usually start with it.
func TestUnclearSubPathKeepsTheFirstSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("a", "0"))
	first, _ := os.Readlink(filepath.Join(f.target, "..data"))
	mkdir(t, f.subPath("app", 0)) // nothing is mounted there, as far as this namespace can see
	for n := 1; n < 4; n++ {
		f.publish(t, content("a", fmt.Sprint(n)))
		if got := sets(t, f.target); got != 2 {
			t.Errorf("after rotation %d there are %d sets, want 2", n, got)
		}
	}
	if got := read(t, filepath.Join(f.target, first, "a")); got != "0" {
		t.Errorf("the first set holds %q", got)
	}
}

// SubPath mounts of another volume of the pod do not count.
func TestSubPathOfAnotherVolume(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	mkdir(t, filepath.Join(f.pod, "volume-subpaths", "other", "app", "0"))
	f.publish(t, content("a", "0"))
	f.publish(t, content("a", "1"))
	if got := sets(t, f.target); got != 1 {
		t.Errorf("%d sets, want 1", got)
	}
}

// The tmpfs grows for kept sets, in bytes and inodes; its other options stay.
func TestCapacityGrowsWithKeptSets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{MaxBytes: 1 << 20, MaxFiles: 4})
	f.publish(t, content("a", "0"))
	before := mounts(t, f.target)[0]
	var two, three unix.Statfs_t
	if err := unix.Statfs(f.target, &two); err != nil {
		t.Fatal(err)
	}
	bind(t, filepath.Join(f.target, "a"), f.subPath("app", 0))
	f.publish(t, content("a", "1"))
	f.publish(t, content("a", "2"))
	if err := unix.Statfs(f.target, &three); err != nil {
		t.Fatal(err)
	}
	if three.Blocks*2 != two.Blocks*3 || (three.Files-3)*2 != (two.Files-3)*3 {
		t.Errorf("blocks %d -> %d, inodes %d -> %d; want half as much again", two.Blocks, three.Blocks, two.Files, three.Files)
	}
	after := mounts(t, f.target)[0]
	block := int64(three.Bsize) //nolint:unconvert // Bsize is an int32 on 32-bit architectures
	numbers := strings.NewReplacer(
		fmt.Sprintf("size=%dk,nr_inodes=%d", int64(three.Blocks)*block/1024, three.Files),
		fmt.Sprintf("size=%dk,nr_inodes=%d", int64(two.Blocks)*block/1024, two.Files))
	if got := numbers.Replace(after); got != before {
		t.Errorf("options were\n%s\nand are\n%s", before, got)
	}
}
