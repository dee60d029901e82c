package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// updateTries bounds how often one call writes a set that somebody else spoils again.
const updateTries = 8

// contested says that somebody else changed the volume in every instant in which it was writable, or so that the driver cannot put it
// right: what belongs to another user or group is beyond a daemon without CAP_CHOWN and CAP_FOWNER.
func contested(what string) error {
	return fmt.Errorf("a container has changed %s, and does so again or keeps it from being put right; delete the pod, and set readOnly: true under csi", what)
}

// update brings a volume that is there to the next set. The comparison that it ends with is made on a read-only file system, so
// it still holds when the call returns.
func (s *Store) update(ctx context.Context, p *place, next *set) (o volume.Outcome, err error) {
	held := findSubPaths(p)
	known, remembered, touched := s.recordOf(p)
	var locked error
	if !known.locked {
		locked = s.mounter.lock(ctx, p)
	}
	found, err := compare(p, next, known, false)
	if err != nil {
		return o, err
	}
	switch {
	case p.state == incomplete && !remembered && halfMade(p):
		found.tampered = ""
	case found.tampered == "" && (touched || remembered && !known.verified && p.fetched.After(s.now())):
		found.tampered = "the time of its files"
	}
	for try := 1; !found.same || found.untidy || found.tampered != "" || !p.fetched.Equal(next.fetched); try++ {
		if found.tampered != "" && o.Tampered == "" {
			o.Tampered = found.tampered
		}
		if try > updateTries {
			s.remember(p, record{locked: locked == nil})
			o.Writable = whyWritable(locked)
			return o, contested(found.tampered)
		}
		if found.same && found.tampered == "" {
			locked, err = s.mounter.writable(ctx, p, func(v view) error {
				s.tidy(ctx, v.Root, p, held, p.current, next.top)
				s.budget.holdPlace(p, 0)
				return stamp(v.Root, p.current, next.fetched)
			})
		} else {
			o.Changed, locked, err = s.swap(ctx, p, held, next, found, locked)
		}
		if err != nil {
			s.remember(p, record{locked: locked == nil, digest: known.digest, sealed: known.sealed})
			o.Writable = whyWritable(locked)
			return o, err
		}
		if err := p.inspect(); err != nil {
			return o, err
		}
		known = record{digest: next.digest}
		if found, err = compare(p, next, known, true); err != nil {
			return o, err
		}
		found.untidy = false // what is left is still used by a container
	}
	o.Writable = whyWritable(locked)
	s.remember(p, record{locked: locked == nil, verified: locked == nil, digest: found.digest, sealed: found.sealed})
	return o, nil
}

// halfMade says whether a volume without ..data holds nothing but what a first publish in the classic way leaves when it is killed.
func halfMade(p *place) bool {
	entries, err := os.ReadDir(procPath(p.fd))
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !isSet(e.Name()) && !isLink(p.fd, e.Name()) && e.Name() != nextLink {
			return false
		}
	}
	return true
}

// mendRoot gives the root folder of the volume the mode that it was mounted with. Its set-group-id bit cannot be given back
// without CAP_FSETID; the comparison that follows tells.
func mendRoot(root *os.Root, next *set) error {
	info, err := root.Stat(".")
	if err != nil || info.Mode().Perm() == next.folderMode.Perm() && info.Mode()&fs.ModeSticky == 0 {
		return err
	}
	return root.Chmod(".", next.folderMode)
}

// swap takes the memory for next and installs it. That may take until other calls have ended, and the volume is read-only meanwhile. What
// a killed rotation or somebody else has left in it goes before, for it may be what is lacking. before is why the volume could not be made
// read-only until now, and locked why not then.
func (s *Store) swap(ctx context.Context, p *place, held subPaths, next *set, found verdict, before error) (changed bool, locked, err error) {
	locked = before
	if found.untidy || found.tampered != "" {
		locked, err = s.mounter.writable(ctx, p, func(v view) error {
			s.clear(ctx, v.Root, p, held)
			return nil
		})
		if err != nil {
			return false, locked, err
		}
	}
	needs := next.charge()
	release, err := s.claimSwap(ctx, p, held, needs)
	if err != nil {
		return false, locked, err
	}
	defer release()
	locked, err = s.mounter.writable(ctx, p, func(v view) error {
		changed, err = s.replace(ctx, v, p, held, next)
		return err
	})
	return changed, locked, err
}

// clear removes what is not of the current set, and gives the names of that.
func (s *Store) clear(ctx context.Context, root *os.Root, p *place, held subPaths) (current []string) {
	if p.current != "" {
		current, _ = topNames(root, p.current) // stays empty of a set that somebody has made unreadable
	}
	s.tidy(ctx, root, p, held, p.current, current)
	return current
}

// replace installs next beside the current set. Whatever fails before ..data has moved is undone.
func (s *Store) replace(ctx context.Context, v view, p *place, held subPaths, next *set) (changed bool, err error) {
	before := s.clear(ctx, v.Root, p, held)
	if err := errors.Join(mendRoot(v.Root, next), markVolume(v.Root)); err != nil {
		return false, err
	}
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
		s.budget.holdPlace(p, 0)
		return false, err
	}
	s.tidy(ctx, v.Root, p, held, name, next.top)
	s.budget.holdPlace(p, next.charge())
	return true, nil
}

// claimSwap takes the memory for one more set. The current one goes after the swap, so that only what the next is larger stays; unless a
// container uses the current one. To look for that opens every file, and is not needed while there is memory for both.
func (s *Store) claimSwap(ctx context.Context, p *place, held subPaths, needs int64) (release func(), err error) {
	both := demand{stays: needs}
	if release, err = s.budget.claim(ctx, both, false); err == nil {
		return release, nil
	}
	used := false
	if err := within(p.fd, func(root *os.Root) error {
		used = isUsed(root, held, p.current)
		return nil
	}); err != nil {
		return nil, err
	}
	if used {
		return s.budget.claim(ctx, both, true)
	}
	now := s.budget.of(p.device)
	if now.set == 0 {
		now.set = now.total
	}
	passes := min(needs, now.set)
	return s.budget.claim(ctx, demand{stays: needs - passes, passes: passes}, true)
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
