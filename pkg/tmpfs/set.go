package tmpfs

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// extraFolders is how many folders a set may have beside two for each file that it is allowed. Four are the
// predecessor's; the rest lets a volume with a small limit still have a few levels.
const extraFolders = 64

// The modes of a volume. With an fsGroup, the group and the set-group-id bit come with the root of the tmpfs, and
// folders inherit both.
const (
	folderPerm, groupFolderPerm fs.FileMode = 0o755, 0o750
	filePerm, groupFilePerm     fs.FileMode = 0o644, 0o640
)

// set is a volume.Content as it stands on disk: checked, with folders and modes made explicit.
type set struct {
	files      []volume.File // mode never 0
	folders    []string      // parents before children
	top        []string      // names in the root of the set, sorted
	folderMode fs.FileMode   // with fs.ModeSetgid if there is a group
	uid, gid   uint32        // of all of them
	fetched    time.Time
	digest     fingerprint
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

	n := &set{folderMode: folderPerm, fetched: mtime(c)}
	n.uid, n.gid = uint32(os.Geteuid()), uint32(os.Getegid()) //nolint:gosec // G115: ids are 32 bits wide
	mode := filePerm
	if group != nil {
		n.folderMode, mode, n.gid = groupFolderPerm|fs.ModeSetgid, groupFilePerm, *group
	}
	folders, top := map[string]struct{}{}, map[string]struct{}{}
	add := func(folder string) {
		for ; folder != "."; folder = path.Dir(folder) {
			if _, known := folders[folder]; known {
				return
			}
			folders[folder] = struct{}{}
		}
	}
	for _, f := range c.Files {
		if err := checkPath(f.Path, top); err != nil {
			return nil, err
		}
		add(path.Dir(f.Path))
		if f.Mode = f.Mode.Perm(); f.Mode == 0 {
			f.Mode = mode
		}
		n.files = append(n.files, f)
	}
	for _, folder := range c.Folders {
		if err := checkPath(folder, top); err != nil {
			return nil, err
		}
		add(folder)
	}
	if limit := 2*s.maxFiles + extraFolders; len(folders) > limit {
		return nil, volume.Errorf(volume.ErrTooLarge, "the volume has %d folders, over the limit of %d (2 for each of --max-volume-files, and %d)",
			len(folders), limit, extraFolders)
	}
	n.folders, n.top = sortedKeys(folders), sortedKeys(top)
	n.digest = n.fingerprint()
	return n, nil
}

// charge is what the kernel charges for the set, see charge: of a page only the whole. The marks and the links of the top-level names belong
// to it.
func (n *set) charge() int64 {
	page := int64(unix.Getpagesize())
	needs := room{inodes: int64(len(n.files) + len(n.folders) + len(n.top) + 2)}
	for _, f := range n.files {
		needs.bytes += (int64(len(f.Data.Reveal())) + page - 1) / page * page
	}
	for _, name := range n.top {
		if len(dataLink)+1+len(name) >= shortLink {
			needs.bytes += page
		}
	}
	return charge(needs)
}

// shortLink is from how many bytes on a link takes a page (SHORT_SYMLINK_LEN in mm/shmem.c, with the NUL at its end).
const shortLink = 128

// checkPath adds the first component of p to top. Whoever made the content has validated its paths; this only makes sure
// that none can name what the layout needs for itself.
func checkPath(p string, top map[string]struct{}) error {
	if !fs.ValidPath(p) || p == "." || strings.HasPrefix(p, "..") {
		return volume.Errorf(volume.ErrInvalid, "path %q cannot stand in a volume", p)
	}
	first, _, _ := strings.Cut(p, "/")
	top[first] = struct{}{}
	return nil
}

func sortedKeys(m map[string]struct{}) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
