package tmpfs

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// extraFolders is how many folders a set may have beside two for each allowed file, so that volumes with a small limit have some levels.
const extraFolders = 64

// The modes of a volume. The driver cannot set the set-group-id bit without CAP_FSETID, so new folders inherit it, and the
// group, from the root of the tmpfs (mountOptions).
const (
	folderMode, groupFolderMode = unix.S_IFDIR | 0o755, unix.S_IFDIR | unix.S_ISGID | 0o750
	fileMode, groupFileMode     = unix.S_IFREG | 0o644, unix.S_IFREG | 0o640
)

// entry is a folder or a file of a set.
type entry struct {
	path     string // relative to the set; "." is the set itself
	mode     uint32 // type and permissions, as in stat(2)
	uid, gid uint32
	hash     contentHash   // of a file
	data     volume.Secret // of a file that is to be written
	keeps    func([]byte) bool
}

func (e entry) perm() fs.FileMode { return fs.FileMode(e.mode & 0o777) }

type contentHash = [sha256.Size]byte

// fingerprint is a hash of the paths, types, modes, owners and bytes of a set. It is stored only beside the values themselves.
type fingerprint [sha256.Size]byte

func fingerprintOf(entries []entry) (digest fingerprint) {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%q %o %d %d %x\n", e.path, e.mode, e.uid, e.gid, e.hash)
	}
	h.Sum(digest[:0])
	return digest
}

// set is a checked volume.Content.
type set struct {
	folder  entry     // the set itself; the root of the volume has the same mode and owner
	entries []entry   // folders and files, sorted: a folder comes before what is in it
	top     []string  // names in the root of the set, sorted
	fetched time.Time // the mtime, see mtime
	digest  fingerprint

	unreadable map[fileVersion]contentHash // after write: the files that this process may not read
}

// newSet checks the content against the limits of the store.
func (s *Store) newSet(c volume.Content, group *uint32) (*set, error) {
	var size int64
	for _, f := range c.Files {
		size += int64(len(f.Data.Reveal()))
	}
	if err := (volume.Limits{Bytes: s.maxBytes, Files: s.maxFiles}).Check(size, len(c.Files)); err != nil {
		return nil, err
	}
	folder := entry{path: ".", mode: folderMode, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())} //nolint:gosec // G115: ids are 32 bits wide
	file := entry{mode: fileMode, uid: folder.uid, gid: folder.gid}
	if group != nil {
		folder.mode, folder.gid, file.mode, file.gid = groupFolderMode, *group, groupFileMode, *group
	}
	n := &set{folder: folder, fetched: mtime(c)}
	folders, top := map[string]struct{}{".": {}}, map[string]struct{}{}
	add := func(name, folder string) {
		first, _, _ := strings.Cut(name, "/")
		top[first] = struct{}{}
		for ; folder != "."; folder = path.Dir(folder) {
			folders[folder] = struct{}{}
		}
	}
	for _, f := range c.Files {
		if err := checkPath(f.Path); err != nil {
			return nil, err
		}
		add(f.Path, path.Dir(f.Path))
		e := file
		e.path, e.data, e.hash, e.keeps = f.Path, f.Data, sha256.Sum256(f.Data.Reveal()), f.Keeps
		if mode := f.Mode.Perm(); mode != 0 {
			e.mode = unix.S_IFREG | uint32(mode)
		}
		n.entries = append(n.entries, e)
	}
	for _, f := range c.Folders {
		if err := checkPath(f); err != nil {
			return nil, err
		}
		add(f, f)
	}
	if count, limit := len(folders)-1, 2*s.maxFiles+extraFolders; count > limit {
		return nil, volume.Errorf(volume.ErrTooLarge, "the volume has %d folders, over the limit of %d (2 for each of --max-volume-files, and %d)",
			count, limit, extraFolders)
	}
	for folder.path = range folders {
		n.entries = append(n.entries, folder)
	}
	n.digest, n.top = fingerprintOf(n.entries), slices.Sorted(maps.Keys(top))
	return n, nil
}

// keepable returns the paths of the files that may keep other bytes, see [volume.File.Keeps].
func (n *set) keepable() map[string][]byte {
	paths := map[string][]byte{}
	for _, e := range n.entries {
		if e.keeps != nil {
			paths[e.path] = nil
		}
	}
	return paths
}

// keep takes the bytes that the volume holds for such files into the set, if the set is then equal to the one that the
// volume holds, which has that digest. It reports whether it did.
func (n *set) keep(held map[string][]byte, digest fingerprint) bool {
	if len(held) == 0 {
		return false
	}
	entries := slices.Clone(n.entries)
	for i := range entries {
		e := &entries[i]
		if data, ok := held[e.path]; ok && e.keeps(data) {
			e.data, e.hash = volume.NewSecret(data), sha256.Sum256(data)
		}
	}
	if fingerprintOf(entries) != digest {
		return false
	}
	n.entries, n.digest = entries, digest
	return true
}

// checkPath rejects the names of the layout. That a path is valid was checked before.
func checkPath(p string) error {
	if !fs.ValidPath(p) || p == "." || strings.HasPrefix(p, "..") {
		return volume.Errorf(volume.ErrInvalid, "path %q cannot stand in a volume", p)
	}
	return nil
}

// charge returns the memory that the kernel charges for the set, with its links and extended attribute. Pages count whole.
func (n *set) charge() int64 {
	page := int64(unix.Getpagesize())
	needs := capacity{inodes: int64(len(n.entries) + len(n.top) + 1)}
	for _, e := range n.entries {
		needs.bytes += (int64(len(e.data.Reveal())) + page - 1) / page * page
	}
	for _, name := range n.top {
		if len(dataLink)+1+len(name) >= longLink {
			needs.bytes += page
		}
	}
	return needs.charge()
}

// longLink is the length from which a link takes a page (SHORT_SYMLINK_LEN in mm/shmem.c, with the NUL at its end).
const longLink = 128

// outagePrecision: the mtime of a set that was published in an outage, and of no other, is the last nanosecond of a millisecond.
const outagePrecision = time.Millisecond

// mtime returns the time of the folder of a set: its fetch time, or up to a millisecond earlier. The zero time, which package os would not
// set, becomes 1970.
func mtime(c volume.Content) time.Time {
	fetched := c.Fetched
	if fetched.IsZero() {
		fetched = time.Unix(0, 0)
	}
	switch {
	case c.Outage != nil:
		return fetched.Truncate(outagePrecision).Add(-time.Nanosecond)
	case inOutage(fetched):
		return fetched.Add(-time.Nanosecond)
	}
	return fetched
}

// inOutage reports whether a set with that mtime was published in an outage.
func inOutage(mtime time.Time) bool {
	next := mtime.Add(time.Nanosecond)
	return next.Truncate(outagePrecision).Equal(next)
}
