package tmpfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// tryToWrite does what the root of a container could do to the volume at dir, and returns what was not refused as read-only. A name may be
// missing because a rotation has just removed its set.
func tryToWrite(dir string) (allowed []string) {
	refused := func(what string, err error) {
		if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOENT) {
			allowed = append(allowed, fmt.Sprintf("%s: %v", what, err))
		}
	}
	refused("create", os.WriteFile(filepath.Join(dir, "evil"), nil, 0o600))
	refused("overwrite", os.WriteFile(filepath.Join(dir, "dir", "file0"), []byte("x"), 0o600))
	refused("truncate", os.Truncate(filepath.Join(dir, "dir", "file0"), 0))
	refused("chmod", os.Chmod(filepath.Join(dir, "dir", "file0"), 0o777))
	refused("mkdir", os.Mkdir(filepath.Join(dir, "..data", "evil"), 0o700))
	refused("symlink", os.Symlink("/etc", filepath.Join(dir, "evil")))
	refused("remove", os.Remove(filepath.Join(dir, "..data")))
	refused("touch", os.Chtimes(filepath.Join(dir, "..data"), time.Now(), time.Now()))
	return allowed
}

// The volume of a pod is read-only at every instant, also while a rotation writes, for a bind mount and for a propagated one.
// No other test runs beside it: its second namespace has a copy of every mount, which would keep folders in use that others
// have replaced.
func TestReadOnlyAtEveryInstant(t *testing.T) { //nolint:paralleltest // see above
	f := newFixture(t, tmpfs.Options{})
	// As on a node: the folder of the kubelet is a shared mount, and containers are started from another namespace, to which the volume is
	// propagated.
	if err := unix.Mount(f.root, f.root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { detach(f.root) })
	if err := unix.Mount("", f.root, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	node := otherNamespace(t)

	f.publish(t, numbered(0))
	container := filepath.Join(t.TempDir(), "container")
	bind(t, f.target, container)
	node(func() {
		if got := mounts(t, f.target); len(got) != 1 || !strings.HasPrefix(got[0], "ro,nosuid,nodev,noexec") {
			t.Errorf("in the namespace of the node the volume is mounted as %v", got)
		}
	})

	var stop atomic.Bool
	var writers sync.WaitGroup
	rounds := make([]int, 3)
	attack := func(i int, dir string) {
		for ; !stop.Load(); rounds[i]++ {
			if allowed := tryToWrite(dir); allowed != nil {
				t.Errorf("writing to %s was not refused: %q", dir, allowed)
				return
			}
		}
	}
	writers.Go(func() { attack(0, f.target) })
	writers.Go(func() { attack(1, container) })
	writers.Go(func() { node(func() { attack(2, f.target) }) })
	for i := range 50 {
		f.publish(t, numbered(i+1))
	}
	stop.Store(true)
	writers.Wait()
	t.Logf("rounds of attempts: %v", rounds)
	checkNumbered(t, container)
	node(func() { checkNumbered(t, f.target) })

	if err := f.Unpublish(f.target); err != nil {
		t.Fatal(err)
	}
	node(func() {
		if got := mounts(t, f.target); len(got) != 0 {
			t.Errorf("after Unpublish the node still has %v", got)
		}
	})
}

// A reader that opens the folder of a set once sees one set, and each name in ..data has its link.
func TestReaderNeverSeesATornSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, numbered(0))
	var stop atomic.Bool
	var readers sync.WaitGroup
	var whole, gone, links atomic.Int64
	readers.Go(func() {
		for !stop.Load() {
			if readSet(t, filepath.Join(f.target, "..data")) {
				whole.Add(1)
			} else {
				gone.Add(1)
			}
		}
	})
	readers.Go(func() {
		for !stop.Load() {
			if readLink(t, f.target) {
				links.Add(1)
			}
		}
	})
	for i := range suite.Rounds(50, 200) {
		// A reader that is slow to close the folder of a removed set keeps the volume writable until then.
		if o, err := f.Publish(t.Context(), f.mount(), numbered(i+1)); err != nil || o.Tampered != "" {
			t.Errorf("round %d: %v, tampered with: %s", i, err, o.Tampered)
		}
	}
	for whole.Load() < 10 || links.Load() < 10 {
		if t.Failed() {
			break
		}
		runtime.Gosched()
	}
	stop.Store(true)
	readers.Wait()
	t.Logf("%d whole sets, %d removed while being read, %d links", whole.Load(), gone.Load(), links.Load())
}

// readSet reads two files of the set at data; false if a rotation removed it meanwhile.
func readSet(t *testing.T, data string) bool {
	root, err := os.OpenRoot(data)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return false
	}
	defer func() { _ = root.Close() }()
	first, err1 := root.ReadFile("dir/file0")
	last, err2 := root.ReadFile("dir/file9")
	if err := errors.Join(err1, err2); err != nil {
		if !errors.Is(err1, os.ErrNotExist) && !errors.Is(err2, os.ErrNotExist) {
			t.Error(err)
		}
		return false
	}
	if !bytes.Equal(first, last) {
		t.Errorf("file0 is of set %s, file9 of set %s", first, last)
	}
	return true
}

// readLink looks for the link of a name in the current set; false if that set was replaced meanwhile.
func readLink(t *testing.T, dir string) bool {
	before, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		t.Errorf("for a moment there was no ..data: %v", err)
	}
	n, err := os.ReadFile(filepath.Join(dir, "..data", "dir", "file0"))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "only-"+string(n)))
	if after, _ := os.Readlink(filepath.Join(dir, "..data")); after != before {
		return false
	}
	if err != nil {
		t.Errorf("set %s is current, but: %v", n, err)
	}
	return true
}

// No call leaves a descriptor open.
func TestNoDescriptorOutlivesACall(t *testing.T) {
	// Not parallel: it counts the descriptors of the process.
	f := newFixture(t, tmpfs.Options{MaxBytes: 100})
	cycle := func(i int) {
		f.publish(t, content("a", "1"))
		f.publish(t, content("a", "1"))
		f.publish(t, content("a", fmt.Sprint("2", i)))
		_, _ = f.Publish(t.Context(), f.mount(), content("a", "2", "a", "3"))
		_, _ = f.Publish(&cancelAfter{Context: t.Context(), calls: 2}, f.mount(), content("b", "2"))
		_, _, _ = f.Refreshed(f.target)
		_, _ = f.Usage(f.target)
		if err := f.Unpublish(f.target); err != nil {
			t.Fatal(err)
		}
		_, _, _ = f.Refreshed(f.target)
		_, _ = f.Publish(&cancelAfter{Context: t.Context(), calls: 2}, f.mount(), content("b", "2"))
	}
	cycle(0)
	before := descriptors(t)
	for i := range 20 {
		cycle(i)
	}
	if after := descriptors(t); after != before {
		t.Errorf("descriptors before %s\nafter %s", before, after)
	}
}

func descriptors(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil {
			open = append(open, e.Name()+" "+to)
		}
	}
	return strings.Join(open, "\n")
}
