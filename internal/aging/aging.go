// Package aging makes a published volume look older than it is, so that tests and the demo see what happens after a
// rotation interval without waiting for it.
//
// The driver keeps no memory of a volume: its age is the modification time of the data folder inside. That folder is
// read-only to everybody, so this package, like the driver, changes it through a private writable clone of the mount.
package aging

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Set gives the volume mounted at target the age it would have, had it been fetched at the time fetched.
func Set(target string, fetched time.Time) error {
	clone, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the mount at %s: %w", target, err)
	}
	defer func() { _ = unix.Close(clone) }()
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make the clone of %s writable: %w", target, err)
	}
	data := filepath.Join("/proc/self/fd", fmt.Sprint(clone), "..data")
	times := []unix.Timespec{unix.NsecToTimespec(fetched.UnixNano()), unix.NsecToTimespec(fetched.UnixNano())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, data, times, 0); err != nil {
		return fmt.Errorf("set the time of %s/..data: %w", target, err)
	}
	return nil
}
