package tmpfs

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Defaults and bounds of [Options]. The bounds keep the size of a tmpfs far from any overflow.
const (
	DefaultMaxBytes = 1 << 20 // as much as a Secret of Kubernetes may hold
	DefaultMaxFiles = 4096

	maxMaxBytes = 1 << 40
	maxMaxFiles = 1 << 20
)

// Options of a [Store].
type Options struct {
	// KubeletRoot is the absolute path of the folder that the kubelet keeps its pods in. A target must lie below it;
	// both are compared as text, after cleaning.
	KubeletRoot string

	// MaxBytes and MaxFiles limit the content of one set: the sum of the sizes of its files, and their number. Folders
	// count apart: there may be two for each file that is allowed, and 64 more. 0 means DefaultMaxBytes and DefaultMaxFiles.
	MaxBytes int64
	MaxFiles int

	// SELinuxLabel is the label of every file; empty leaves that to the kernel, which refuses one where SELinux is off. A kubelet
	// passes none for inline volumes, and a container runtime cannot relabel what is read-only: without this option the
	// files would have tmpfs_t, which containers may not read.
	SELinuxLabel string

	// Memory says how the memory of the driver stands, to which all volumes together are charged; nil means without bound. It is asked
	// before a volume is mounted or becomes larger.
	Memory func() Memory

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Store publishes volumes. Calls for different targets may run at the same time; calls for one target must not: the
// caller claims it first.
type Store struct {
	root     string
	maxBytes int64
	maxFiles int
	label    string
	now      func() time.Time
	mounter  mounter
	budget   *budget

	records sync.Map // by the path of a target: its record
}

// New makes a Store, and finds out which of the system calls for mounting this process may use, and which volumes are mounted.
func New(o Options) (*Store, error) {
	root := filepath.Clean(o.KubeletRoot)
	switch {
	case !filepath.IsAbs(root):
		return nil, fmt.Errorf("the kubelet's root %q is not an absolute path (--kubelet-root)", o.KubeletRoot)
	case o.MaxBytes < 0 || o.MaxBytes > maxMaxBytes:
		return nil, fmt.Errorf("the limit of %d bytes is not between 1 and %d (--max-volume-bytes)", o.MaxBytes, int64(maxMaxBytes))
	case o.MaxFiles < 0 || o.MaxFiles > maxMaxFiles:
		return nil, fmt.Errorf("the limit of %d files is not between 1 and %d (--max-volume-files)", o.MaxFiles, maxMaxFiles)
	}
	s := &Store{root: root, maxBytes: o.MaxBytes, maxFiles: o.MaxFiles, label: o.SELinuxLabel, now: o.Now, budget: newBudget(o.Memory)}
	if s.maxBytes == 0 {
		s.maxBytes = DefaultMaxBytes
	}
	if s.maxFiles == 0 {
		s.maxFiles = DefaultMaxFiles
	}
	if s.now == nil {
		s.now = time.Now
	}
	swap := &swapOption{}
	if err := probe(); err != nil {
		s.mounter = &classic{swap: swap, reason: err}
	} else {
		s.mounter = &detached{swap: swap}
	}
	if err := s.findMounted(); err != nil {
		return nil, fmt.Errorf("look for volumes that are mounted: %w", err)
	}
	return s, nil
}

// Inspect says what stands at target. It takes a few microseconds, but for the first look that this process takes at a volume.
//
// A set from the future (the clock of the node was stepped back) gives the zero time: it must count as stale, or
// rotation would stop until the clock has caught up. A target that is missing, is no mount, or holds something else than a
// complete set is not Published; what is to be done about it is for [Store.Publish] to decide. A target that does not lie
// below the kubelet's root is volume.ErrInvalid.
//
// A volume whose file system is found writable was left so by a process that was killed while it wrote, or by a version of the
// driver that kept it so. It is made read-only here, and stays Unverified until a Publish has compared it.
func (s *Store) Inspect(ctx context.Context, target string) (volume.State, error) {
	at, err := s.find(target)
	if err != nil {
		return volume.State{}, err
	}
	defer at.close()
	p, err := at.open()
	if err != nil {
		return volume.State{}, err
	}
	defer p.close()
	if p.state != complete {
		return volume.State{}, nil
	}
	state := volume.State{Published: true, Unverified: !s.verified(ctx, p), Outage: ofOutage(p.fetched)}
	if !p.fetched.After(s.now()) {
		state.Fetched = p.fetched
	}
	return state, nil
}

// verified says whether the volume at p is as this process, or one before it, has left it.
func (s *Store) verified(ctx context.Context, p *place) bool {
	known, remembered, touched := s.recordOf(p)
	switch {
	case remembered && known.locked:
		return known.verified && !touched
	case !remembered && !p.superblockWritable():
		s.remember(p, record{locked: true, verified: true})
		return true
	}
	err := s.mounter.lock(ctx, p)
	if !touched {
		s.remember(p, record{locked: err == nil, digest: known.digest, sealed: known.sealed})
	}
	return false
}

// Usage gives what the volume at path occupies, and what its tmpfs could hold. volume.ErrNotFound when no complete
// volume is mounted there.
func (s *Store) Usage(path string) (volume.Usage, error) {
	none := volume.Errorf(volume.ErrNotFound, "no volume is mounted at %q", path)
	at, err := s.find(path)
	if err != nil {
		return volume.Usage{}, none
	}
	defer at.close()
	p, err := at.open()
	if err != nil {
		return volume.Usage{}, err
	}
	defer p.close()
	if p.state != complete {
		return volume.Usage{}, none
	}
	st, err := statfs(p.fd)
	if err != nil {
		return volume.Usage{}, fmt.Errorf("read the usage of %q: %w", path, err)
	}
	total, free := int64(st.Blocks)*st.Bsize, int64(st.Bfree)*st.Bsize //nolint:gosec // G115: our own size, bounded by Options
	inodes, freeInodes := int64(st.Files), int64(st.Ffree)             //nolint:gosec // G115: as above
	return volume.Usage{
		TotalBytes: total, UsedBytes: total - free, AvailableBytes: free,
		TotalInodes: inodes, UsedInodes: inodes - freeInodes, AvailableInodes: freeInodes,
	}, nil
}

// room is what a tmpfs may hold. Neither number is ever 0, which tmpfs would take for "without limit".
type room struct {
	bytes  int64
	inodes int64
}

// room gives what the given number of sets needs at most. For each file of a set that is its bytes, up to a page because
// the last one is not full, and a page for a top-level link that is too long to stand in its inode. In inodes it is
// the file, its link, and folders: as many as newSet allows. The fifth inode of each file is for security labels, and one of each
// set and of the volume for its mark: the kernel counts extended attributes against the same limit.
func (s *Store) room(sets int) room {
	page := int64(unix.Getpagesize())
	files := int64(s.maxFiles)
	return room{
		bytes:  int64(sets) * (s.maxBytes + 2*files*page),
		inodes: int64(sets)*(5*files+extraFolders+3) + 3,
	}
}
