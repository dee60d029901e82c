package tmpfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Unpublish unmounts whatever is mounted at target, and removes the folder. It succeeds on whatever is left of a volume:
// never mounted, gone, gone with its parent, half made, busy, mounted more than once. A symbolic link or a file at
// target is not this driver's work, and nothing of ours can be mounted there: it is not followed, not touched, and no error.
//
// A folder that is no mount and not empty is an error: nothing in it was written by this driver, which therefore does
// not delete it. A target outside the kubelet's root is volume.ErrInvalid.
func (s *Store) Unpublish(target string) error {
	at, err := s.find(target)
	if err != nil {
		return err
	}
	defer at.close()
	if err := at.unmountAll(); err != nil {
		return err
	}
	s.budget.forget(at.real())
	s.records.Delete(at.path)
	switch err := at.rmdir(); {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("target path %q is no mount and not empty: its files are not this driver's and are left alone; move them away", at.path)
	default:
		return fmt.Errorf("remove target path %q: %w", at.path, err)
	}
}

// unmountAll unmounts until nothing is mounted at the target, from the top of a stack down.
func (t *target) unmountAll() error {
	for {
		switch err := t.unmount(); {
		case err == nil:
			continue
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			return nil
		case !errors.Is(err, unix.EINVAL):
			return fmt.Errorf("unmount %q: %w", t.path, err)
		}
		// EINVAL: no mount, a symbolic link, or a mount that the kernel does not let this process unmount.
		p, err := t.open()
		if err != nil {
			return err
		}
		p.close()
		switch p.state {
		case missing, notFolder, notMounted:
			return nil
		case incomplete, complete, foreign:
		}
		return fmt.Errorf("unmount %q: the kernel does not let this process unmount it: %w", t.path, unix.EINVAL)
	}
}

// unmount takes the topmost mount off the target. A busy one is detached: it is out of sight at once, and gone when its
// last user is.
func (t *target) unmount() error {
	if t.parent < 0 {
		return t.absent
	}
	path := procPath(t.parent) + "/" + t.name // umount2(2) takes no descriptor
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	return err
}
