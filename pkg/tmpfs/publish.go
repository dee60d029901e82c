package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Publish makes the content appear at the target, and reports what it has found and done.
//
// A target without a volume is mounted; its parent must exist. A set that is there is compared with the content by names, bytes, modes and
// owners: if they are equal only its fetch time is updated, else the whole set is replaced in one step. The group is set by the first
// publish.
//
// volume.ErrTooLarge: the content is over the limits, no memory is left for it ([Options.Memory]), or the tmpfs is full. volume.ErrInvalid:
// the target is outside of the kubelet's root, or a path is not valid in a volume. The context's own error when it has ended. All other
// errors are the node's. After an error without Changed everything is as before the call.
func (s *Store) Publish(ctx context.Context, v volume.Mount, c volume.Content) (o volume.Outcome, err error) {
	t, err := open(s.root, v.Target)
	if err != nil {
		return o, err
	}
	defer t.close()
	next, err := s.newSet(c, v.Group)
	if err != nil {
		return o, err
	}
	if err := ctx.Err(); err != nil {
		return o, fmt.Errorf("publish at %q: %w", t.path, err)
	}
	switch t.kind {
	case complete, incomplete:
		o, err = s.update(ctx, t, next)
		return o, explain(err, "rotate the volume at", t.path)
	case notFolder:
		return o, fmt.Errorf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", t.path)
	case foreign:
		return o, fmt.Errorf("target path %q holds %s", t.path, t.describe())
	case notMounted:
		entries, err := readDir(t.fd, ".")
		if err != nil {
			return o, fmt.Errorf("look at target path %q: %w", t.path, err)
		}
		if len(entries) > 0 { // a mount would hide them
			return o, fmt.Errorf("target path %q is no mount and not empty: its files are not this driver's; move them away", t.path)
		}
	case missing:
	}
	if err := s.mount(ctx, t, v.Group, next); err != nil {
		return o, explain(err, "mount a volume at", t.path)
	}
	return volume.Outcome{Changed: true}, nil
}

// mount mounts the first set. No other process can reach it before it is read-only, so it needs no comparison.
func (s *Store) mount(ctx context.Context, t *target, group *uint32, next *set) error {
	s.budget.remove(t)
	charge := next.charge()
	total := charge + mountCharge + (capacity{inodes: ownInodes}).charge()
	release, err := s.budget.claim(ctx, demand{permanent: total}, true)
	if err != nil {
		return err
	}
	defer release()
	name := setName(s.now(), nil)
	var st unix.Stat_t
	err = s.mounter.mount(ctx, t, s.mountOptions(group), func(w *writableVolume) error {
		if err := unix.Fstat(w.fd, &st); err != nil {
			return err
		}
		return next.install(ctx, w, name)
	})
	if err == nil {
		t.device, t.current, t.fetched = st.Dev, name, next.fetched
		s.remember(t, record{locked: true, verified: true, digest: next.digest, unreadable: next.unreadable})
		s.budget.set(t, volumeUsage{total: total, set: charge})
	}
	if s.label != "" && errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w; if SELinux is off on this node, or its policy does not know %s, set another --selinux-label", err, s.label)
	}
	return err
}

// explain makes an error of the mounter one stable line: the paths in errors of package os contain descriptors and times. Such errors are
// of files in the tmpfs, so only there ENOSPC is about the size of the volume.
func explain(err error, doing, target string) error {
	if err == nil {
		return nil
	}
	e, inFile := errors.AsType[*fs.PathError](err)
	if inFile {
		err = fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	if inFile && errors.Is(err, unix.ENOSPC) {
		return volume.Errorf(volume.ErrTooLarge, "%s %q: no room is left in its tmpfs, though the content is within the limits: "+
			"containers still use too many old sets, by open files or subPath; restart them or raise --max-volume-bytes", doing, target)
	}
	return fmt.Errorf("%s %q: %w", doing, target, err)
}

// cause returns the kernel's error of an error of package os.
func cause(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// Unpublish unmounts whatever is mounted at target, and removes the folder. It succeeds for every remainder of a volume: never mounted,
// gone, gone with its parent, incomplete, busy, mounted more than once. A symbolic link or a file at target is left alone, and no error. A
// folder that is no mount and not empty is an error. volume.ErrInvalid: the target is outside of the kubelet's root.
func (s *Store) Unpublish(target string) error {
	t, err := find(s.root, target)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.unmountAll(); err != nil {
		return err
	}
	s.budget.remove(t)
	s.records.Delete(t.path)
	switch err := t.rmdir(); {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("target path %q is no mount and not empty: its files are not this driver's and are left alone; move them away", t.path)
	default:
		return fmt.Errorf("remove target path %q: %w", t.path, err)
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
		if err := t.inspect(); err != nil {
			return err
		}
		if t.kind == missing || t.kind == notFolder || t.kind == notMounted {
			return nil
		}
		return fmt.Errorf("unmount %q: the kernel does not let this process unmount it: %w", t.path, unix.EINVAL)
	}
}

// unmount takes the topmost mount off the target. A busy one is detached: it is invisible at once, and ends with its last user.
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
