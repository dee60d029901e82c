package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mounter is one of the two ways to mount a tmpfs and to write into one that is mounted read-only.
type mounter interface {
	// mount makes a tmpfs, lets fill write into it, makes it read-only, and has it at the target if and only if that all succeeded.
	// The last element of the target's path is made if it is missing, and removed again after a failure.
	mount(ctx context.Context, at *target, o mountOptions, fill func(*os.Root) error) error

	// writable makes the file system at p writable, gives fn a view through which it can write and which no other process can
	// reach, and makes the file system read-only again. locked says why the latter failed; err is of all the rest.
	writable(ctx context.Context, p *place, fn func(view) error) (locked, err error)

	// lock makes the file system at p read-only, as it should be; see whileBusy for EBUSY.
	lock(ctx context.Context, p *place) error
}

// view is a writable view of a volume, valid during one call.
type view struct {
	*os.Root
	resize func(room) error // makes the tmpfs at least this big; never smaller
}

// mountOptions are those of a new tmpfs.
type mountOptions struct {
	room
	group *uint32
	label string // SELinux label of every file; empty for none
}

// attributes of every mount of a volume, beside read-only.
const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

type option struct{ key, value string }

func (r room) options() []option {
	return []option{{"size", strconv.FormatInt(r.bytes, 10)}, {"nr_inodes", strconv.FormatInt(r.inodes, 10)}}
}

func (o mountOptions) options() []option {
	mode, gid := "0755", uint32(0)
	if o.group != nil {
		mode, gid = "2750", *o.group
	}
	all := append(o.room.options(), option{"mode", mode}, option{"uid", "0"}, option{"gid", strconv.FormatUint(uint64(gid), 10)})
	if o.label != "" {
		all = append(all, option{"context", o.label})
	}
	return all
}

// probe calls each of the system calls of Linux 5.2 to 5.12 with a descriptor that does not exist. EBADF or EINVAL means
// that the kernel looked at it, ENOSYS that it does not know the call, EPERM that a filter or a missing capability is
// in the way.
func probe() error {
	const none = -1
	_, fsmount := unix.Fsmount(none, 0, 0)
	_, fspick := unix.Fspick(none, "", unix.FSPICK_EMPTY_PATH)
	_, openTree := unix.OpenTree(none, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
	calls := []struct {
		name string
		err  error
	}{
		{"fsconfig", unix.FsconfigCreate(none)},
		{"fsmount", fsmount},
		{"fspick", fspick},
		{"open_tree", openTree},
		{"move_mount", unix.MoveMount(none, "", none, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)},
		{"mount_setattr", unix.MountSetattr(none, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})},
	}
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	_ = unix.Close(fs)
	for _, call := range calls {
		if errors.Is(call.err, unix.ENOSYS) || errors.Is(call.err, unix.EPERM) {
			return fmt.Errorf("%s: %w", call.name, call.err)
		}
	}
	return nil
}

// detached mounts with the calls that Linux has had since 5.12: a tmpfs is filled before it is attached anywhere, and the
// kernel frees it with its descriptor if it never is.
type detached struct{ swap *swapOption }

func (d *detached) mount(ctx context.Context, at *target, o mountOptions, fill func(*os.Root) error) (err error) {
	mnt, err := d.create(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(mnt) }()
	if err := within(mnt, fill); err != nil {
		return err
	}
	err = whileBusy(ctx, func() error {
		return unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	})
	if err == nil {
		err = d.setReadOnly(ctx, mnt)
	}
	if err != nil {
		return fmt.Errorf("make it read-only: %w", err)
	}
	return at.with(func(folder int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := unix.MoveMount(mnt, "", folder, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		return nil
	})
}

// setReadOnly makes the file system read-only.
func (d *detached) setReadOnly(ctx context.Context, mnt int) error {
	return whileBusy(ctx, func() error { return d.reconfigure(mnt, "ro", nil) })
}

func (d *detached) lock(ctx context.Context, p *place) error { return d.setReadOnly(ctx, p.fd) }

// reconfigure changes the file system behind a mount: whether it is read-only ("ro", "rw", or empty to leave that), and options.
func (d *detached) reconfigure(mnt int, access string, options []option) error {
	return d.swap.repeat(func(noswap bool) error {
		fs, err := unix.Fspick(mnt, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("fspick: %w", err)
		}
		defer func() { _ = unix.Close(fs) }()
		if err := configure(fs, options); err != nil {
			return err
		}
		for flag, wanted := range map[string]bool{access: access != "", "noswap": noswap} {
			if !wanted {
				continue
			}
			if err := unix.FsconfigSetFlag(fs, flag); err != nil {
				return err
			}
		}
		return unix.FsconfigReconfigure(fs)
	})
}

// create gives the descriptor of a tmpfs that is attached nowhere.
func (d *detached) create(ctx context.Context, o mountOptions) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	// The source is what the mount table shows as the device; tmpfs itself has none.
	if err := configure(fs, append(o.options(), option{"source", "tmpfs"})); err != nil {
		return -1, err
	}
	if !d.swap.refused.Load() {
		switch err := unix.FsconfigSetFlag(fs, "noswap"); {
		case errors.Is(err, unix.EINVAL):
			d.swap.refuse(ctx)
		case err != nil:
			return -1, fmt.Errorf("option noswap: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create a tmpfs: %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return mnt, nil
}

func configure(fs int, options []option) error {
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o.key, o.value); err != nil {
			return fmt.Errorf("option %s=%s: %w", o.key, o.value, err)
		}
	}
	return nil
}

// writable clones the mount. The clone is attached nowhere and shares the files, not the read-only attribute.
func (d *detached) writable(ctx context.Context, p *place, fn func(view) error) (locked, err error) {
	clone, err := unix.OpenTree(p.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("clone the mount: %w", err)
	}
	defer func() { _ = unix.Close(clone) }()
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return nil, fmt.Errorf("make the clone writable: %w", err)
	}
	if err := d.reconfigure(clone, "rw", nil); err != nil {
		return nil, fmt.Errorf("make the file system writable: %w", err)
	}
	defer func() { locked = d.setReadOnly(ctx, clone) }()
	return nil, within(clone, func(root *os.Root) error {
		return fn(view{Root: root, resize: func(want room) error {
			bigger, err := grown(clone, want)
			if err != nil || bigger == nil {
				return err
			}
			return d.reconfigure(clone, "", bigger.options())
		}})
	})
}

// grown gives the room that a tmpfs must get to have at least what is wanted; nil if it has that already.
func grown(mnt int, want room) (*room, error) {
	st, err := statfs(mnt)
	if err != nil {
		return nil, err
	}
	have := room{bytes: int64(st.Blocks) * st.Bsize, inodes: int64(st.Files)} //nolint:gosec // G115: our own size, bounded by Options
	if have.bytes >= want.bytes && have.inodes >= want.inodes {
		return nil, nil
	}
	return &room{bytes: max(have.bytes, want.bytes), inodes: max(have.inodes, want.inodes)}, nil
}

// within opens the root of a mount for fn. All paths go through it, so none can lead out.
func within(mnt int, fn func(*os.Root) error) error {
	root, err := os.OpenRoot(procPath(mnt))
	if err != nil {
		return fmt.Errorf("open the root of the tmpfs: %w", cause(err))
	}
	defer func() { _ = root.Close() }()
	return fn(root)
}
