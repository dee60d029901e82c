package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// classic mounts with mount(2) alone. What the new calls do with a mount that is attached nowhere is done here in a
// mount namespace that lives as long as the call: a thread of its own unshares one, and there the copy of the volume's
// mount, and nothing else, becomes writable. The attribute of a mount does not propagate, so what pods see stays read-only.
//
// (A mount that is made read-only only after it was filled would not do. Its copy in the namespace of the node, from which
// containers are started, is made by propagation when it is attached, and would stay writable.)
type classic struct {
	swap   *swapOption
	reason error // why the new calls cannot be used
	said   sync.Once
}

const classicFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mount attaches an empty, read-only tmpfs, and fills it through the back. Being killed in between leaves a mount without
// ..data, which the next Publish throws away.
func (c *classic) mount(ctx context.Context, at *target, o mountOptions, fill func(*os.Root) error) error {
	c.said.Do(func() {
		klog.FromContext(ctx).Info("Volumes are mounted with mount(2), because a newer system call is refused (it takes Linux 5.12)",
			"reason", c.reason.Error())
	})
	return at.with(func(folder int) error {
		options := o.options()
		if o.label != "" {
			options[len(options)-1].value = `"` + o.label + `"` // a label may have commas
		}
		if err := c.attach(ctx, procPath(folder), options); err != nil {
			return fmt.Errorf("mount a tmpfs: %w", err)
		}
		err := c.fill(ctx, at, fill)
		if err == nil {
			return nil
		}
		if undo := at.unmount(); undo != nil {
			return fmt.Errorf("%w (and its mount could not be undone: %w)", err, undo)
		}
		return err
	})
}

func (c *classic) fill(ctx context.Context, at *target, fill func(*os.Root) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := at.open()
	if err != nil {
		return err
	}
	defer p.close()
	locked, err := c.writable(ctx, p, func(v view) error { return fill(v.Root) })
	if err == nil {
		err = locked
	}
	return err
}

// attach mounts an empty tmpfs at path. Only if the kernel takes everything but noswap is that left out.
func (c *classic) attach(ctx context.Context, path string, options []option) error {
	const flags = classicFlags | unix.MS_RDONLY
	if !c.swap.refused.Load() {
		if err := unix.Mount("tmpfs", path, "tmpfs", flags, words(options, true)); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", flags, words(options, false)); err != nil {
		return err
	}
	c.swap.refuse(ctx)
	return nil
}

// words writes options as mount(2) takes them.
func words(options []option, noswap bool) string {
	all := make([]string, 0, len(options)+1)
	for _, o := range options {
		all = append(all, o.key+"="+o.value)
	}
	if noswap {
		all = append(all, "noswap")
	}
	return strings.Join(all, ",")
}

// lock needs no namespace of its own: the mount at the target is read-only already.
func (c *classic) lock(ctx context.Context, p *place) error { return c.setReadOnly(ctx, p.fd) }

func (c *classic) setReadOnly(ctx context.Context, mnt int) error {
	return whileBusy(ctx, func() error { return c.remount(mnt, unix.MS_RDONLY, nil) })
}

// remount changes the mount and the file system behind it.
func (c *classic) remount(mnt int, access uintptr, options []option) error {
	return c.swap.repeat(func(noswap bool) error {
		return unix.Mount("", procPath(mnt), "", classicFlags|unix.MS_REMOUNT|access, words(options, noswap))
	})
}

func (c *classic) writable(ctx context.Context, p *place, fn func(view) error) (locked, err error) {
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		// By path, because all descriptors are of the namespace that has just been left.
		mnt, err := p.openCopy()
		if err != nil {
			return fmt.Errorf("open the copy of the mount: %w", err)
		}
		defer func() { _ = unix.Close(mnt) }()
		if err := c.remount(mnt, 0, nil); err != nil {
			return fmt.Errorf("make the copy of the mount writable: %w", err)
		}
		defer func() { locked = c.setReadOnly(ctx, mnt) }()
		return within(mnt, func(root *os.Root) error {
			return fn(view{Root: root, resize: func(want room) error {
				bigger, err := grown(mnt, want)
				if err != nil || bigger == nil {
					return err
				}
				return c.remount(mnt, 0, bigger.options())
			}})
		})
	})
	return locked, err
}

var errMoved = errors.New("the path leads to something else by now")

// openCopy opens the place in the namespace of this thread, and makes sure that the same file system is mounted there.
func (p *place) openCopy() (int, error) {
	at := *p.at
	if err := at.pin(); err != nil {
		return -1, err
	}
	defer at.close()
	mnt, err := at.openFolder()
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(mnt, &st); err != nil || st.Dev != p.device {
		_ = unix.Close(mnt)
		return -1, errors.Join(err, errMoved)
	}
	return mnt, nil
}

// onOwnThread runs fn on a thread that ends with it, and so takes with it what fn has unshared. The main thread of a
// process cannot end, and /proc/self shows its namespace; while it is held here, the runtime must take another one.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onOwnThread(fn)
			runtime.UnlockOSThread()
			return
		}
		done <- fn()
	}()
	return <-done
}
