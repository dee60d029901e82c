package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// mounter mounts volumes, and writes into those that are mounted.
type mounter struct {
	noswap
	source string // see [Options.Source]
}

// mount makes a tmpfs that fill writes into, makes it read-only, and attaches it to the target, if all of that works. A tmpfs that is not
// attached is freed with its descriptor.
func (m *mounter) mount(ctx context.Context, t *target, options []string, fill func(*writableVolume) error) error {
	mnt, err := m.create(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(mnt) }()
	if err := fill(&writableVolume{fd: mnt}); err != nil {
		return err
	}
	err = whileBusy(ctx, func() error {
		if err := unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return err
		}
		return m.reconfigure(mnt, "ro")
	})
	if err != nil {
		return wrap("make it read-only", err)
	}
	return t.withFolder(func(folder int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return wrap("attach", unix.MoveMount(mnt, "", folder, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	})
}

// create returns the descriptor of a tmpfs that is not attached.
func (m *mounter) create(ctx context.Context, options []string) (mnt int, err error) {
	err = m.first(ctx, append(options, "source="+m.source), func(options []string) error {
		fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
		if err != nil {
			return wrap("fsopen", err)
		}
		defer func() { _ = unix.Close(fs) }()
		if err := configure(fs, options); err != nil {
			return err
		}
		if err := unix.FsconfigCreate(fs); err != nil {
			return wrap("create a tmpfs", err)
		}
		mnt, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
		return wrap("fsmount", err)
	})
	return mnt, err
}

func configure(fs int, options []string) error {
	for _, option := range options {
		key, value, isString := strings.Cut(option, "=")
		set := func() error { return unix.FsconfigSetFlag(fs, key) }
		if isString {
			set = func() error { return unix.FsconfigSetString(fs, key, value) }
		}
		if err := set(); err != nil {
			return wrap("option "+option, err)
		}
	}
	return nil
}

// reconfigure changes options of the superblock. The first option is "ro" or "rw".
func (m *mounter) reconfigure(fd int, options ...string) error {
	return m.retry(options, func(options []string) error {
		fs, err := unix.Fspick(fd, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
		if err != nil {
			return wrap("fspick", err)
		}
		defer func() { _ = unix.Close(fs) }()
		if err := configure(fs, options); err != nil {
			return err
		}
		return unix.FsconfigReconfigure(fs)
	})
}

// writableVolume is a volume that can be written to until the function that got it returns. Where it is mounted, no call for it may be
// repeated after EINTR, as package os does (see impatiently).
type writableVolume struct {
	fd int // of the root (O_PATH)
}

// write makes the superblock at t writable, calls fn, and makes it read-only again. lockErr says why the latter failed. It writes through a
// clone of the mount, which no other process can reach, and which shares the superblock, not the read-only attribute.
func (m *mounter) write(ctx context.Context, t *target, fn func(*writableVolume) error) (lockErr, err error) {
	clone, err := unix.OpenTree(t.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, wrap("clone the mount", err)
	}
	defer func() { _ = unix.Close(clone) }()
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return nil, wrap("make the clone writable", err)
	}
	if err := m.reconfigure(clone, "rw"); err != nil {
		return nil, wrap("make the file system writable", err)
	}
	defer func() { lockErr = m.lock(ctx, clone) }()
	return nil, impatiently(func() error { return fn(&writableVolume{fd: clone}) })
}

// lock makes the superblock read-only.
func (m *mounter) lock(ctx context.Context, fd int) error {
	return whileBusy(ctx, func() error { return m.reconfigure(fd, "ro") })
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

// mountOptions are the options of a new tmpfs.
func (s *Store) mountOptions(group *uint32) []string {
	mode, gid := folderMode, uint32(0)
	if group != nil {
		mode, gid = groupFolderMode, *group
	}
	options := append(s.capacityFor(2).options(), fmt.Sprintf("mode=%04o", mode&0o7777), "uid=0", fmt.Sprint("gid=", gid))
	if s.label != "" {
		options = append(options, "context="+s.label)
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
