package tmpfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Defaults and bounds of [Options]. The bounds keep the size of a tmpfs far from any overflow.
const (
	DefaultMaxBytes = 1 << 20 // the limit of a Secret of Kubernetes
	DefaultMaxFiles = 4096

	maxMaxBytes = 1 << 40
	maxMaxFiles = 1 << 20
)

// Options of a [Store].
type Options struct {
	KubeletRoot string // absolute path; targets must lie below it

	// Source is the source of the tmpfs in the mount table, by which a new process distinguishes the volumes of the one before from those
	// of another driver in the same kubelet's root. Empty means "tmpfs".
	Source string

	// MaxBytes limits the sizes of all files of a set together, MaxFiles their number; 0 means the default. There may be two folders for
	// each allowed file, and 64 more.
	MaxBytes int64
	MaxFiles int

	// SELinuxLabel is the label of every file. Empty means that the kernel decides: tmpfs_t, which containers may not read.
	SELinuxLabel string

	// Memory returns the state of the memory to which all volumes are charged, before a volume is mounted or grows; nil means no limit.
	Memory func() Memory

	Now func() time.Time // the clock; nil means time.Now
}

// Store publishes volumes. Calls for different targets may run at the same time; for one target the caller makes them one by one.
type Store struct {
	root     root
	maxBytes int64
	maxFiles int
	label    string
	now      func() time.Time
	mounter  *mounter
	budget   *budget

	records sync.Map // target path → record
}

// record is what this process knows about a volume. It saves reads of the mount table; a new process starts without.
type record struct {
	device  uint64
	current string    // the set
	fetched time.Time // its mtime

	locked     bool                        // the superblock is read-only
	verified   bool                        // and was so when the set was last compared or written
	digest     fingerprint                 // of the set; zero if this process has not compared it
	unreadable map[fileVersion]contentHash // files that this process may not read
	unreported bool                        // no call without an error has reported the set as a change
}

// New makes a Store. It finds out which volumes are mounted.
func New(o Options) (*Store, error) {
	path := filepath.Clean(o.KubeletRoot)
	switch {
	case !filepath.IsAbs(path):
		return nil, fmt.Errorf("the kubelet's root %q is not an absolute path (--kubelet-root)", o.KubeletRoot)
	case o.MaxBytes < 0 || o.MaxBytes > maxMaxBytes:
		return nil, fmt.Errorf("the limit of %d bytes is not between 1 and %d (--max-volume-bytes)", o.MaxBytes, int64(maxMaxBytes))
	case o.MaxFiles < 0 || o.MaxFiles > maxMaxFiles:
		return nil, fmt.Errorf("the limit of %d files is not between 1 and %d (--max-volume-files)", o.MaxFiles, maxMaxFiles)
	}
	source := cmp.Or(o.Source, "tmpfs")
	s := &Store{
		root: root{path: path, real: path}, maxBytes: cmp.Or(o.MaxBytes, DefaultMaxBytes), maxFiles: cmp.Or(o.MaxFiles, DefaultMaxFiles),
		label: o.SELinuxLabel, now: o.Now, mounter: &mounter{source: source}, budget: newBudget(o.Memory),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		s.root.real = resolved
	}
	if err := s.budget.addMounted(s.root.real, source); err != nil {
		return nil, fmt.Errorf("look for volumes that are mounted: %w", err)
	}
	return s, nil
}

// Inspect returns the state of the volume at target, in a few microseconds. A target without a complete set is not Published. A set from the
// future (the clock was stepped back) has the zero time, so that it counts as stale. volume.ErrInvalid: the target is outside of the
// kubelet's root.
//
// A volume whose superblock is writable was left so by a killed process. It is made read-only, and stays Unverified until a Publish has
// compared it.
func (s *Store) Inspect(ctx context.Context, target string) (volume.State, error) {
	t, err := open(s.root, target)
	if err != nil {
		return volume.State{}, err
	}
	defer t.close()
	if t.kind != complete {
		return volume.State{}, nil
	}
	state := volume.State{Published: true, Unverified: !s.verified(ctx, t), Outage: inOutage(t.fetched)}
	if !t.fetched.After(s.now()) {
		state.Fetched = t.fetched
	}
	return state, nil
}

// verified reports whether the volume is as this process, or the one before, has left it.
func (s *Store) verified(ctx context.Context, t *target) bool {
	known, found, changed := s.recordOf(t)
	switch {
	case found && known.locked:
		return known.verified && !changed
	case !found && !t.superblockWritable():
		s.remember(t, record{locked: true, verified: true})
		return true
	}
	err := s.mounter.lock(ctx, t.fd)
	if !changed {
		known.locked, known.verified = err == nil, false
		s.remember(t, known)
	}
	return false
}

// recordOf returns the record of the volume at t, if there is one. changed reports that another process has changed the set or its time. (A
// set that was made to look older is only refreshed sooner.)
func (s *Store) recordOf(t *target) (r record, found, changed bool) {
	value, _ := s.records.Load(t.path)
	r, found = value.(record)
	if !found || r.device != t.device {
		return record{}, false, false
	}
	return r, true, r.current != t.current || t.fetched.After(r.fetched)
}

// remember stores r as the record of the volume at t.
func (s *Store) remember(t *target, r record) {
	r.device, r.current, r.fetched = t.device, t.current, t.fetched
	s.records.Store(t.path, r)
}

// Usage returns what the volume at path occupies, and the size of its tmpfs. volume.ErrNotFound when no complete volume is mounted there.
func (s *Store) Usage(path string) (volume.Usage, error) {
	t, err := open(s.root, path)
	if err != nil && !errors.Is(err, volume.ErrInvalid) {
		return volume.Usage{}, err
	}
	if err == nil {
		defer t.close()
	}
	if err != nil || t.kind != complete {
		return volume.Usage{}, volume.Errorf(volume.ErrNotFound, "no volume is mounted at %q", path)
	}
	total, used, err := statfs(t.fd)
	if err != nil {
		return volume.Usage{}, fmt.Errorf("read the usage of %q: %w", path, err)
	}
	return volume.Usage{
		TotalBytes: total.bytes, UsedBytes: used.bytes, AvailableBytes: total.bytes - used.bytes,
		TotalInodes: total.inodes, UsedInodes: used.inodes, AvailableInodes: total.inodes - used.inodes,
	}, nil
}

// capacity is a size of a tmpfs. Neither number is ever 0, which tmpfs would take for "no limit".
type capacity struct {
	bytes  int64
	inodes int64
}

// capacityFor returns what the given number of sets needs at most. Each file needs its bytes, up to a page because the last one is not
// full, and a page for a long link; and five inodes: file, link, two folders, and a security label. Sets and the volume have attributes.
func (s *Store) capacityFor(sets int) capacity {
	page, files := int64(unix.Getpagesize()), int64(s.maxFiles)
	return capacity{
		bytes:  int64(sets) * (s.maxBytes + 2*files*page),
		inodes: int64(sets)*(5*files+extraFolders+3) + 3,
	}
}
