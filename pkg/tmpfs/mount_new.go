package tmpfs

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// newAPI mounts with the system calls of Linux 5.2 to 5.12. A tmpfs that is not attached is freed with its descriptor.
type newAPI struct {
	noswap
	source string
}

// probe calls each of the system calls without a valid descriptor. ENOSYS means that the kernel does not know the call, EPERM that a filter
// or a missing capability forbids it.
func probe() error {
	const none = -1
	fs, fsopen := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if fsopen == nil {
		_ = unix.Close(fs)
	}
	_, fsmount := unix.Fsmount(none, 0, 0)
	_, fspick := unix.Fspick(none, "", unix.FSPICK_EMPTY_PATH)
	_, openat2 := unix.Openat2(none, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	_, openTree := unix.OpenTree(none, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
	for _, call := range []struct {
		name string
		err  error
	}{
		{"fsopen", fsopen},
		{"fsconfig", unix.FsconfigCreate(none)},
		{"fsmount", fsmount},
		{"fspick", fspick},
		{"open_tree", openTree},
		{"openat2", openat2},
		{"move_mount", unix.MoveMount(none, "", none, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)},
		{"mount_setattr", unix.MountSetattr(none, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})},
	} {
		if errors.Is(call.err, unix.ENOSYS) || errors.Is(call.err, unix.EPERM) {
			return wrap(call.name, call.err)
		}
	}
	return nil
}

func (a *newAPI) mount(ctx context.Context, t *target, options []string, fill func(*writableVolume) error) error {
	mnt, err := a.create(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(mnt) }()
	if err := (mounter{a}).open(mnt, fill); err != nil {
		return err
	}
	err = whileBusy(ctx, func() error {
		if err := unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return err
		}
		return a.reconfigure(mnt, "ro")
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
func (a *newAPI) create(ctx context.Context, options []string) (mnt int, err error) {
	err = a.first(ctx, append(options, "source="+a.source), func(options []string) error {
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

func (a *newAPI) reconfigure(fd int, options ...string) error {
	return a.retry(options, func(options []string) error {
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

// privateCopy clones the mount. The clone is not attached and shares the superblock, not the read-only attribute.
func (a *newAPI) privateCopy(t *target, fn func(fd int) error) error {
	clone, err := unix.OpenTree(t.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return wrap("clone the mount", err)
	}
	defer func() { _ = unix.Close(clone) }()
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return wrap("make the clone writable", err)
	}
	return fn(clone)
}
