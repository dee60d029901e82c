package tmpfs_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// Another process exchanges the parent folder of a target with a symbolic link out of the kubelet's root, again and again, while volumes are
// mounted and unmounted. Each call works in the folder or is refused: nothing is made, mounted or unmounted behind the link.
func TestRenamedParent(t *testing.T) {
	t.Parallel()
	rounds := suite.Rounds(300, 2000)
	f := newFixture(t, tmpfs.Options{})
	outside, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Another mount has the name of the target behind the link.
	theirs := filepath.Join(outside, "theirs", filepath.Base(f.target))
	mkdir(t, theirs)
	if err := unix.Mount("theirs", theirs, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { detach(theirs) })
	bare := filepath.Join(outside, "bare")
	mkdir(t, bare)

	parent := filepath.Dir(f.target)
	for name, leads := range map[string]string{"to a mount": filepath.Dir(theirs), "to an empty folder": bare} {
		link := parent + "-link"
		if err := unix.Symlink(leads, link); err != nil {
			t.Fatal(err)
		}
		swapped := exchanging(t, parent, link)
		published, refused := 0, 0
		// On a busy machine it may take more rounds until a call works.
		for i := 0; i < rounds || published == 0 && i < 100*rounds; i++ {
			if _, err := f.Publish(t.Context(), f.mount(), content("a", "1")); err == nil {
				published++
			} else {
				refused++
			}
			_ = f.Unpublish(f.target)
			if i%100 == 0 && len(tree(t, bare)) > 1 {
				break
			}
		}
		if got := tree(t, bare); len(got) > 1 {
			t.Errorf("%s: made behind the link: %q", name, got)
		}
		if swaps := swapped(); swaps == 0 || published == 0 {
			t.Errorf("%s: the test proves nothing: %d swaps, %d calls worked, %d were refused", name, swaps, published, refused)
		}
		if unix.Unlink(link) != nil { // it is the folder now
			_ = unix.Unlink(parent)
			if err := unix.Rename(link, parent); err != nil {
				t.Fatal(err)
			}
		}
		detach(f.target)
		if got := mounts(t, theirs); len(got) != 1 || !strings.Contains(got[0], "size=64k") {
			t.Errorf("%s: the other mount became %q", name, got)
		}
	}
}

// exchanging exchanges two paths until its result is called, which returns how often.
func exchanging(t *testing.T, a, b string) (stop func() int) {
	t.Helper()
	done, count := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				count <- n
				return
			default:
			}
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		}
	}()
	return func() int {
		close(done)
		return <-count
	}
}
