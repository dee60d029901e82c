package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Publish makes the content appear at the target of m, and says what it has found and done.
//
// On a target that holds no set the volume is mounted; the folder of the target itself is made if needed, its parent must
// exist. On a target that holds a complete set, the content is compared with it by names, bytes and modes. What is
// equal stays as it is and only counts as fetched anew; what differs replaces the whole set in one step. The group of m
// is that of the first publish: it cannot change in the life of a pod. What is there afterwards has been compared with the content
// while the file system was read-only.
//
// A set may only have the files that the limits allow, else volume.ErrTooLarge, before anything is touched. The same error
// says that no memory is left for it (Options.Memory), or that the kernel had no room left in the volume (ENOSPC). A target outside
// the kubelet's root is volume.ErrInvalid; so is a path that cannot stand in a volume. The context's own error is returned when it ended; every other error is
// trouble of the node's. With an error and without Changed, everything is as it was before the call.
func (s *Store) Publish(ctx context.Context, m volume.Mount, c volume.Content) (o volume.Outcome, err error) {
	at, err := s.find(m.Target)
	if err != nil {
		return o, err
	}
	defer at.close()
	next, err := s.newSet(c, m.Group)
	if err != nil {
		return o, err
	}
	if err := ctx.Err(); err != nil {
		return o, fmt.Errorf("publish at %q: %w", at.path, err)
	}
	p, err := at.open()
	if err != nil {
		return o, err
	}
	defer p.close()
	switch p.state {
	case complete, incomplete:
		o, err = s.update(ctx, p, next)
		return o, explain(err, "rotate the volume at", p.path)
	case notFolder:
		return o, fmt.Errorf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", at.path)
	case foreign:
		return o, fmt.Errorf("target path %q holds %s", at.path, p.describe())
	case notMounted:
		if err := p.mustBeEmpty(); err != nil {
			return o, err
		}
	case missing:
	}
	if err := s.mount(ctx, at, m, next); err != nil {
		return o, explain(err, "mount a volume at", at.path)
	}
	return volume.Outcome{Changed: true}, nil
}

// mount mounts the first set. Nobody else can reach it before it is read-only, so it needs no look afterwards.
func (s *Store) mount(ctx context.Context, at *target, m volume.Mount, next *set) error {
	s.budget.forget(at.real())
	needs := next.charge()
	total := needs + mountCharge + charge(room{inodes: ownInodes})
	release, err := s.budget.claim(ctx, demand{stays: total}, true)
	if err != nil {
		return err
	}
	defer release()
	mounted := place{path: at.path, current: folderName(s.now(), nil), fetched: next.fetched}
	known := record{locked: true, verified: true, digest: next.digest}
	err = s.mounter.mount(ctx, at, mountOptions{room: s.room(2), group: m.Group, label: s.label}, func(root *os.Root) error {
		info, err := root.Stat(".")
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			mounted.device = st.Dev
		}
		if err := markVolume(root); err != nil {
			return err
		}
		if err := next.install(ctx, root, mounted.current); err != nil {
			return err
		}
		known.sealed, err = next.seals(root, mounted.current)
		return err
	})
	if err == nil {
		s.remember(&mounted, known)
		s.budget.hold(mounted.device, holding{path: at.real(), total: total, set: needs})
	}
	return err
}

// explain gives an error of a mounter one stable line: the paths in errors of package os hold descriptors and times.
// Those errors come from files in the tmpfs, so only there does ENOSPC speak of the room of the volume.
func explain(err error, doing, target string) error {
	if err == nil {
		return nil
	}
	var inFile *fs.PathError
	var inLink *os.LinkError
	switch {
	case errors.As(err, &inFile):
		err = fmt.Errorf("%s: %w", inFile.Op, inFile.Err)
	case errors.As(err, &inLink):
		err = fmt.Errorf("%s: %w", inLink.Op, inLink.Err)
	default:
		return fmt.Errorf("%s %q: %w", doing, target, err)
	}
	if errors.Is(err, unix.ENOSPC) {
		return volume.Errorf(volume.ErrTooLarge, "%s %q: no room is left in its tmpfs, though the content is within the limits: "+
			"containers still use too many old sets, by open files or subPath; restart them or raise --max-volume-bytes", doing, target)
	}
	return fmt.Errorf("%s %q: %w", doing, target, err)
}
