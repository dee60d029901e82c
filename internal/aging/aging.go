// Package aging changes a published volume without the driver, so that tests and the demo need not wait for a rotation
// interval, and can change files as an attacker would.
//
// The file system of a volume is read-only. This package makes it writable for a moment through a private clone of its
// mount, as the driver does for a rotation. It needs CAP_SYS_ADMIN over the mount, and Linux 5.12.
package aging

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Set makes the volume mounted at target as old as if it had been fetched at the time fetched.
func Set(target string, fetched time.Time) error {
	return Writable(target, func(dir string) error {
		times := []unix.Timespec{unix.NsecToTimespec(fetched.UnixNano()), unix.NsecToTimespec(fetched.UnixNano())}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "..data"), times, 0); err != nil {
			return fmt.Errorf("set the time of %s/..data: %w", target, err)
		}
		return nil
	})
}

// Writable calls fn with a folder through which the volume mounted at target can be written. It makes the file system
// read-only again afterwards.
func Writable(target string, fn func(dir string) error) (err error) {
	clone, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the mount at %s: %w", target, err)
	}
	defer func() { _ = unix.Close(clone) }()
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make the clone of %s writable: %w", target, err)
	}
	if err := reconfigure(clone, "rw"); err != nil {
		return fmt.Errorf("make the file system at %s writable: %w", target, err)
	}
	defer func() {
		if locked := reconfigure(clone, "ro"); locked != nil {
			err = errors.Join(err, fmt.Errorf("make the file system at %s read-only: %w", target, locked))
		}
	}()
	return fn(filepath.Join("/proc/self/fd", fmt.Sprint(clone)))
}

// reconfigure makes the file system writable or read-only. Linux 6.4 to 6.17 require noswap again if it was set at the mount,
// other versions refuse it.
func reconfigure(mnt int, access string) error {
	var failed error
	for _, flags := range [][]string{{access, "noswap"}, {access}} {
		fs, err := unix.Fspick(mnt, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("fspick: %w", err)
		}
		failed = nil
		for _, flag := range flags {
			if failed == nil {
				failed = unix.FsconfigSetFlag(fs, flag)
			}
		}
		if failed == nil {
			failed = unix.FsconfigReconfigure(fs)
		}
		_ = unix.Close(fs)
		if !errors.Is(failed, unix.EINVAL) {
			return failed
		}
	}
	return failed
}
