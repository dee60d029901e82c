package tmpfs

import (
	"cmp"
	"context"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// updateTries bounds how often one call writes a set that another process changes again.
const updateTries = 8

// update is one call of Publish for a volume that is mounted.
type update struct {
	*Store
	at   *target
	next *set
	used subPathSets

	known   record
	found   comparison
	lockErr error // why the superblock could not be made read-only
	outcome volume.Outcome
}

// update brings a mounted volume to the next set. It ends with a comparison on a read-only file system, so the result still holds when the
// call returns.
func (s *Store) update(ctx context.Context, t *target, next *set) (volume.Outcome, error) {
	u := &update{Store: s, at: t, next: next, used: t.findSubPathSets()}
	err := u.run(ctx)
	u.outcome.Writable = whyWritable(u.lockErr)
	return u.outcome, err
}

func (u *update) run(ctx context.Context) error {
	if err := u.inspect(ctx); err != nil {
		return err
	}
	for try := 1; u.due(); try++ {
		u.outcome.Tampered = cmp.Or(u.outcome.Tampered, u.found.tampered)
		if try > updateTries {
			u.remember(u.at, record{locked: u.lockErr == nil})
			return fmt.Errorf("a container has changed %s, and does so again or keeps it from being put right; "+
				"delete the pod, and set readOnly: true under csi", u.found.tampered)
		}
		err := u.write(ctx)
		if err == nil {
			if err = u.at.refresh(); err != nil {
				u.records.Delete(u.at.path) // which set it holds is not known
				return err
			}
			u.found, err = compare(u.at, u.next, u.known)
		}
		if err != nil {
			u.remember(u.at, record{
				locked: u.lockErr == nil, digest: u.known.digest, unreadable: u.known.unreadable, unreported: u.outcome.Changed,
			})
			return err
		}
		u.found.leftovers = false // containers use them
	}
	u.remember(u.at, record{locked: u.lockErr == nil, verified: u.lockErr == nil, digest: u.found.digest, unreadable: u.known.unreadable})
	return nil
}

// inspect compares the volume before anything is written.
func (u *update) inspect(ctx context.Context) (err error) {
	var remembered, changed bool
	u.known, remembered, changed = u.recordOf(u.at)
	u.outcome.Changed = u.known.unreported
	if !u.known.locked {
		u.lockErr = u.mounter.lock(ctx, u.at.fd)
	}
	if u.found, err = compare(u.at, u.next, u.known); err != nil {
		return err
	}
	if u.found.tampered == "" && (changed || remembered && !u.known.verified && u.at.fetched.After(u.now())) {
		u.found.tampered = "the time of its files"
	}
	return nil
}

// due reports whether something is left to write.
func (u *update) due() bool {
	return !u.found.same || u.found.leftovers || u.found.tampered != "" || !u.at.fetched.Equal(u.next.fetched)
}

// write replaces the set, or updates only its time if nothing else differs.
func (u *update) write(ctx context.Context) (err error) {
	unreadable := u.known.unreadable
	if !u.found.same || u.found.tampered != "" {
		err = u.replace(ctx)
		unreadable = u.next.unreadable
	} else {
		u.lockErr, err = u.mounter.write(ctx, u.at, func(w *writableVolume) error {
			u.cleanUp(ctx, w, u.at.current)
			u.budget.measure(u.at, 0)
			return w.setTime(u.at.current, u.next.fetched)
		})
	}
	if err == nil {
		u.known = record{digest: u.next.digest, unreadable: unreadable}
	}
	return err
}

// replace takes the memory for the next set and installs it. Waiting for memory can take until other calls have ended; the volume is
// read-only meanwhile. Leftovers are removed before, because their memory may be what is missing.
func (u *update) replace(ctx context.Context) (err error) {
	if u.found.leftovers || u.found.tampered != "" {
		u.lockErr, err = u.mounter.write(ctx, u.at, func(w *writableVolume) error {
			u.cleanUp(ctx, w, u.at.current)
			return nil
		})
		if err != nil {
			return err
		}
	}
	release, err := u.claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	u.lockErr, err = u.mounter.write(ctx, u.at, func(w *writableVolume) error { return u.install(ctx, w) })
	return err
}

// claim takes the memory for one more set. The current set is removed after the swap, so only the difference is needed for good; unless a
// container uses the current set. Whether one does is expensive to find out, and not needed while there is memory for both.
func (u *update) claim(ctx context.Context) (release func(), err error) {
	charge := u.next.charge()
	both := demand{permanent: charge}
	if release, err = u.budget.claim(ctx, both, false); err == nil {
		return release, nil
	}
	if set := u.at.current; set != "" && (u.used.unclear || u.used.names[set] || isOpen(u.at.fd, set, 0)) {
		return u.budget.claim(ctx, both, true)
	}
	now := u.budget.usageOf(u.at)
	temporary := min(charge, cmp.Or(now.set, now.total))
	return u.budget.claim(ctx, demand{permanent: charge - temporary, temporary: temporary}, true)
}

// install writes the next set beside the current one and makes it current. A failure before that is undone.
func (u *update) install(ctx context.Context, w *writableVolume) error {
	sets := u.cleanUp(ctx, w, u.at.current)
	if _, err := w.repairMode(".", u.next.folder); err != nil {
		return err
	}
	if err := u.makeSpace(w, len(sets)); err != nil {
		return wrap("make room for one more set", err)
	}
	name := setName(u.now(), sets)
	if err := u.next.install(ctx, w, name); err != nil {
		u.cleanUp(ctx, w, u.at.current)
		u.budget.measure(u.at, 0)
		return err
	}
	u.outcome.Changed = true
	u.cleanUp(ctx, w, name)
	u.budget.measure(u.at, u.next.charge())
	return nil
}

// makeSpace makes the tmpfs large enough for one more set. Removed files that a container keeps open need memory too, so what is used counts,
// up to the size of two sets: a pod that leaks descriptors must not make its volume grow without end.
func (u *update) makeSpace(w *writableVolume, sets int) error {
	have, used, err := statfs(w.fd)
	if err != nil {
		return err
	}
	least, most, one := u.capacityFor(sets+1), u.capacityFor(sets+3), u.capacityFor(1)
	want := capacity{
		bytes:  max(have.bytes, min(max(least.bytes, used.bytes+one.bytes), most.bytes)),
		inodes: max(have.inodes, min(max(least.inodes, used.inodes+one.inodes), most.inodes)),
	}
	if want == have {
		return nil
	}
	return u.mounter.reconfigure(w.fd, append([]string{"rw"}, want.options()...)...)
}

// cleanUp removes what neither the current set nor a container needs, and returns the sets that are left. A failure is only logged: the next
// call tries again.
func (u *update) cleanUp(ctx context.Context, w *writableVolume, current string) []string {
	sets, err := cleanUp(w.fd, u.used, current)
	if err != nil {
		klog.FromContext(ctx).Error(whyInterrupted(cause(err)), "Old files of a volume could not be removed; the next refresh tries again", "target", u.at.path)
	}
	return sets
}
