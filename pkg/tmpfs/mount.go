package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// mountAPI is one of the kernel's two interfaces for mounting.
type mountAPI interface {
	// mount makes a tmpfs that fill writes into, makes it read-only, and attaches it to the target, if all of that works.
	mount(ctx context.Context, t *target, options []string, fill func(*writableVolume) error) error

	// privateCopy calls fn with a descriptor of a copy of the mount that is not read-only and that no other process can reach.
	privateCopy(t *target, fn func(fd int) error) error

	// reconfigure changes options of the superblock, of them "ro" or "rw" first.
	reconfigure(fd int, options ...string) error
}

// mounter mounts volumes, and writes into those that are mounted.
type mounter struct{ mountAPI }

// writableVolume is a volume that can be written to until the function that got it returns.
type writableVolume struct {
	*os.Root
	fd  int // of the root (O_PATH)
	api mountAPI
}

// open calls fn with the root of a writable mount.
func (m mounter) open(fd int, fn func(*writableVolume) error) error {
	root, err := os.OpenRoot(procPath(fd))
	if err != nil {
		return wrap("open the root of the tmpfs", cause(err))
	}
	defer func() { _ = root.Close() }()
	return fn(&writableVolume{Root: root, fd: fd, api: m})
}

// write makes the superblock at t writable, calls fn, and makes it read-only again. lockErr says why the latter failed.
func (m mounter) write(ctx context.Context, t *target, fn func(*writableVolume) error) (lockErr, err error) {
	err = m.privateCopy(t, func(fd int) error {
		if err := m.reconfigure(fd, "rw"); err != nil {
			return wrap("make the file system writable", err)
		}
		defer func() { lockErr = m.lock(ctx, fd) }()
		return m.open(fd, fn)
	})
	return lockErr, err
}

// lock makes the superblock read-only.
func (m mounter) lock(ctx context.Context, fd int) error {
	return whileBusy(ctx, func() error { return m.reconfigure(fd, "ro") })
}

// grow makes the tmpfs at least that large.
func (w *writableVolume) grow(want capacity) error {
	have, _, err := statfs(w.fd)
	if err != nil || have.bytes >= want.bytes && have.inodes >= want.inodes {
		return err
	}
	want = capacity{bytes: max(have.bytes, want.bytes), inodes: max(have.inodes, want.inodes)}
	return w.api.reconfigure(w.fd, append([]string{"rw"}, want.options()...)...)
}

// busyTries bounds how long EBUSY is waited for: a tenth of a second.
const busyTries = 100

// whileBusy repeats a change to read-only while the kernel answers EBUSY, for readers that have just opened a file of the replaced set.
func whileBusy(ctx context.Context, change func() error) error {
	for try := 1; ; try++ {
		err := change()
		if !errors.Is(err, unix.EBUSY) || try == busyTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

// whyWritable explains why the superblock could not be made read-only; empty for nil.
func whyWritable(err error) string {
	const text = "the volume's file system could not be made read-only again: "
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EBUSY):
		return text + "a container has a file of it open for writing, or has a removed file or folder of it open; restart that container"
	default:
		return text + err.Error()
	}
}

func (c capacity) options() []string {
	return []string{fmt.Sprint("size=", c.bytes), fmt.Sprint("nr_inodes=", c.inodes)}
}

const labelOption = "context="

// mountOptions are the options of a new tmpfs.
func (s *Store) mountOptions(group *uint32) []string {
	mode, gid := folderMode, uint32(0)
	if group != nil {
		mode, gid = groupFolderMode, *group
	}
	options := append(s.capacityFor(2).options(), fmt.Sprintf("mode=%04o", mode&0o7777), "uid=0", fmt.Sprint("gid=", gid))
	if s.label != "" {
		options = append(options, labelOption+s.label)
	}
	return options
}

// noswap is a mount option that kernels before 6.3, and user namespaces, refuse. The refusal is remembered, and logged once.
type noswap struct{ refused atomic.Bool }

// retry calls change with noswap and, after EINVAL, without. Linux 6.4 to 6.17 accept a change of a mounted tmpfs only if noswap is given
// exactly as in its first mount, which cannot be read back.
func (s *noswap) retry(options []string, change func(options []string) error) error {
	if !s.refused.Load() {
		if err := change(append(options, "noswap")); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return change(options)
}

// first is retry for a new tmpfs, where the result shows whether the kernel knows noswap.
func (s *noswap) first(ctx context.Context, options []string, mount func(options []string) error) error {
	return s.retry(options, func(all []string) error {
		err := mount(all)
		if err == nil && len(all) == len(options) && s.refused.CompareAndSwap(false, true) {
			klog.FromContext(ctx).Info("This kernel refuses the tmpfs option noswap (it is older than 6.3, or this is a user namespace): " +
				"content of volumes may be written to swap, if the node has any")
		}
		return err
	})
}

// wrap says what an error is about.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
