package tmpfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// oldAPI mounts with mount(2). A tmpfs is attached empty and read-only, because its copies in other namespaces, which are made then, would
// stay writable. It is filled through the copy in a private mount namespace, which a thread of its own unshares for each call.
type oldAPI struct {
	noswap
	reason error // why the new API cannot be used
	logged sync.Once
}

const oldFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mount leaves a volume without ..data if the process is killed before it is filled; the next Publish fills it.
func (a *oldAPI) mount(ctx context.Context, t *target, options []string, fill func(*writableVolume) error) error {
	a.logged.Do(func() {
		klog.FromContext(ctx).Info("Volumes are mounted with mount(2), because a newer system call is refused (it takes Linux 5.12)",
			"reason", a.reason.Error())
	})
	for i := range options {
		if label, found := strings.CutPrefix(options[i], labelOption); found {
			options[i] = labelOption + `"` + label + `"` // it may have commas
		}
	}
	return t.withFolder(func(folder int) error {
		err := a.first(ctx, options, func(options []string) error {
			return unix.Mount("tmpfs", procPath(folder), "tmpfs", oldFlags|unix.MS_RDONLY, strings.Join(options, ","))
		})
		if err != nil {
			return wrap("mount a tmpfs", err)
		}
		if err = a.fill(ctx, t, fill); err != nil {
			t.closeFolder()
			if undo := t.unmount(); undo != nil {
				return fmt.Errorf("%w (and its mount could not be undone: %w)", err, undo)
			}
		}
		return err
	})
}

func (a *oldAPI) fill(ctx context.Context, t *target, fill func(*writableVolume) error) error {
	if err := t.inspect(); err != nil {
		return err
	}
	lockErr, err := mounter{a}.write(ctx, t, fill)
	return cmp.Or(err, lockErr)
}

// reconfigure changes the mount as well as its superblock.
func (a *oldAPI) reconfigure(fd int, options ...string) error {
	flags := uintptr(oldFlags | unix.MS_REMOUNT)
	if options[0] == "ro" {
		flags |= unix.MS_RDONLY
	}
	return a.retry(options[1:], func(options []string) error {
		return unix.Mount("", procPath(fd), "", flags, strings.Join(options, ","))
	})
}

// privateCopy finds the copy by its path, because all descriptors are of the namespace before; the device shows that it is the same file
// system.
func (a *oldAPI) privateCopy(t *target, fn func(fd int) error) error {
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return wrap("make a mount namespace", err)
		}
		c, err := open(t.root, t.path)
		if err != nil {
			return wrap("open the copy of the mount", err)
		}
		defer c.close()
		if c.device != t.device {
			return errors.New("open the copy of the mount: the path leads to something else by now")
		}
		return fn(c.fd)
	})
}

// onOwnThread runs fn on a thread that ends with it, and with it what fn has unshared. The main thread of a process cannot end, and
// /proc/self shows its namespace; while it is held here, the runtime must take another one.
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
