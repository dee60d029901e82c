package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Publish makes the content appear at the target of m, and says whether files changed.
//
// On a target that holds no set the volume is mounted; the folder of the target itself is made if needed, its parent must
// exist. On a target that holds a complete set, the content is compared with it by names, bytes and modes. What is
// equal stays as it is and only counts as fetched anew; what differs replaces the whole set in one step. The group of m
// is that of the first publish: it cannot change in the life of a pod.
//
// A set may only have the files that the limits allow, else volume.ErrTooLarge, before anything is touched. The same error
// says that the kernel had no room left in the volume (ENOSPC). A target outside the kubelet's root is volume.ErrInvalid;
// so is a path that cannot stand in a volume. The context's own error is returned when it ended; every other error is
// trouble of the node's. With an error and false, everything is as it was before the call.
func (s *Store) Publish(ctx context.Context, m volume.Mount, c volume.Content) (changed bool, err error) {
	at, err := s.find(m.Target)
	if err != nil {
		return false, err
	}
	defer at.close()
	next, err := s.newSet(c, m.Group != nil)
	if err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("publish at %q: %w", at.path, err)
	}
	p, err := at.openHealed()
	if err != nil {
		return false, err
	}
	defer p.close()
	switch p.state {
	case complete:
		return s.update(ctx, p, next)
	case notFolder:
		return false, fmt.Errorf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", at.path)
	case foreign:
		return false, fmt.Errorf("target path %q holds %s, which this driver has not mounted; unmount it", at.path, p.describe())
	case notMounted:
		if err := p.mustBeEmpty(); err != nil {
			return false, err
		}
	case missing, incomplete: // incomplete does not come out of openHealed
	}
	o := mountOptions{room: s.room(2), group: m.Group, label: s.label}
	err = s.mounter.mount(ctx, at, o, func(root *os.Root) error {
		return next.install(ctx, root, folderName(s.now(), nil))
	})
	if err != nil {
		return false, explain(err, "mount a volume at", at.path)
	}
	return true, nil
}

// update brings a complete volume to the next set.
func (s *Store) update(ctx context.Context, p *place, next *set) (changed bool, err error) {
	held := findSubPaths(p)
	err = s.mounter.writable(p, func(v view) error {
		same, err := next.equal(v.Root, p.current)
		if err != nil {
			return err
		}
		if same {
			s.tidy(ctx, v.Root, p, held, p.current, next.top)
			return stamp(v.Root, p.current, next.fetched)
		}
		changed, err = s.replace(ctx, v, p, held, next)
		return err
	})
	if err != nil {
		return changed, explain(err, "rotate the volume at", p.path)
	}
	return changed, nil
}

// replace installs next beside the current set. Whatever fails before ..data has moved is undone.
func (s *Store) replace(ctx context.Context, v view, p *place, held subPaths, next *set) (changed bool, err error) {
	before, err := topNames(v.Root, p.current)
	if err != nil {
		return false, err
	}
	// First what a killed rotation left behind, so that its room is free again.
	s.tidy(ctx, v.Root, p, held, p.current, before)
	sets, err := setFolders(v.Root)
	if err != nil {
		return false, err
	}
	if err := s.makeRoom(v, p, len(sets)); err != nil {
		return false, fmt.Errorf("make room for one more set: %w", err)
	}
	name := folderName(s.now(), sets)
	if err := next.install(ctx, v.Root, name); err != nil {
		s.tidy(ctx, v.Root, p, held, p.current, before)
		return false, err
	}
	s.tidy(ctx, v.Root, p, held, name, next.top)
	return true, nil
}

// makeRoom has the tmpfs hold one set more than there are. Files that a container has kept open since their set was removed
// occupy room as well, so what is used counts, up to the size of two sets: a pod that leaks descriptors must not have
// its volume grow without end.
func (s *Store) makeRoom(v view, p *place, sets int) error {
	st, err := statfs(p.fd)
	if err != nil {
		return err
	}
	used := room{
		bytes:  int64(st.Blocks-st.Bfree) * st.Bsize, //nolint:gosec // G115: our own size, bounded by Options
		inodes: int64(st.Files - st.Ffree),           //nolint:gosec // G115: as above
	}
	least, most, one := s.room(sets+1), s.room(sets+3), s.room(1)
	return v.resize(room{
		bytes:  min(max(least.bytes, used.bytes+one.bytes), most.bytes),
		inodes: min(max(least.inodes, used.inodes+one.inodes), most.inodes),
	})
}

// tidy removes what neither the current set nor a subPath needs. That it failed is no reason to fail a call whose set
// is in place: the next call tidies again.
func (s *Store) tidy(ctx context.Context, root *os.Root, p *place, held subPaths, current string, top []string) {
	if err := sweep(root, held, current, top); err != nil {
		klog.FromContext(ctx).Error(cause(err), "Old files of a volume could not be removed; the next refresh tries again", "target", p.path)
	}
}

// openHealed is open after half-made volumes have been thrown away.
func (t *target) openHealed() (*place, error) {
	for {
		p, err := t.open()
		if err != nil || p.state != incomplete {
			return p, err
		}
		p.close() // or the unmount finds it busy
		if err := t.unmount(); err != nil {
			return nil, fmt.Errorf("unmount what is half made at %q: %w", t.path, err)
		}
	}
}

// explain gives an error of a mounter one stable line: the paths in errors of package os hold descriptors and times.
// Those errors come from files in the tmpfs, so only there does ENOSPC speak of the room of the volume.
func explain(err error, doing, target string) error {
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
