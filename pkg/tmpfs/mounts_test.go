package tmpfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
)

// mounts returns what is mounted at path: for each mount its options, then those of the file system.
func mounts(t testing.TB, path string) (options []string) {
	t.Helper()
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != path, false })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		options = append(options, e.Options+" | "+e.VFSOptions)
	}
	return options
}

// mountTmpfs mounts a tmpfs that is not the driver's.
func mountTmpfs(t testing.TB, path string) {
	t.Helper()
	mkdir(t, path)
	if err := unix.Mount("foreign", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
}

// bind creates where and mounts what there, as a bind mount. Links in what are resolved.
func bind(t testing.TB, what, where string) {
	t.Helper()
	info, err := os.Stat(what)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		mkdir(t, where)
	} else {
		mkdir(t, filepath.Dir(where))
		write(t, where, "")
	}
	if err := unix.Mount(what, where, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { detach(where) })
}

func detach(path string) {
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
}

// writeBehind runs fn with a path through which the volume at target can be written to, behind the back of the store.
func writeBehind(t testing.TB, target string, fn func(dir string)) {
	t.Helper()
	err := aging.Writable(target, func(dir string) error {
		fn(dir)
		return nil
	})
	if errors.Is(err, unix.ENOSYS) {
		t.Skipf("this test cannot write into the volume: %v", err)
	}
	if err != nil && !errors.Is(err, unix.EBUSY) { // fn has left a removed file open, or one that can be written
		t.Fatal(err)
	}
}

// otherNamespace makes a mount namespace, as that of the node or of another container, and returns a function that runs fn in it.
func otherNamespace(t testing.TB) (run func(fn func())) {
	t.Helper()
	work, done := make(chan func()), make(chan struct{})
	ready := make(chan error)
	onThread(func() {
		ready <- syscall.Unshare(syscall.CLONE_NEWNS)
		for fn := range work {
			fn()
			done <- struct{}{}
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(work) })
	return func(fn func()) {
		work <- fn
		<-done
	}
}

// onThread runs fn on a thread that ends with it. The main thread cannot end, and /proc/self shows its namespace.
func onThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return
		}
		other := make(chan struct{})
		onThread(func() { close(other); fn() })
		<-other
		runtime.UnlockOSThread()
	}()
}

// without runs fn on a thread without the capabilities.
func without(t *testing.T, caps ...int) (run func(fn func())) {
	t.Helper()
	return func(fn func()) {
		done := make(chan error)
		onThread(func() {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			err := unix.Capget(&header, &data[0])
			for _, c := range caps {
				data[c/32].Effective &^= 1 << (c % 32)
			}
			if err == nil {
				err = unix.Capset(&header, &data[0])
			}
			if err == nil {
				fn()
			}
			done <- err
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// unlock makes the file system writable, as a process leaves it that is killed in a rotation.
func unlock(t *testing.T, target string) {
	t.Helper()
	fd, err := unix.Fspick(unix.AT_FDCWD, target, unix.FSPICK_CLOEXEC)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.FsconfigSetFlag(fd, "rw")
	}
	if err == nil {
		_ = unix.FsconfigSetFlag(fd, "noswap") // refused in a user namespace
		err = unix.FsconfigReconfigure(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remountReadOnly(t *testing.T, target string) {
	t.Helper()
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
}
