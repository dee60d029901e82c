package tmpfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// subPaths are the files and folders of a volume that containers have bound by subPath.
//
// The kubelet resolves a subPath when a container starts and binds what it finds, which is then an inode in one set, to
//
//	<pod folder>/volume-subpaths/<volume>/<container>/<index>
//
// Rotations never reach such a bind, and removing its set would turn a bound folder empty under the container.
type subPaths struct {
	inodes  map[uint64]struct{} // of this volume
	unclear bool                // something there is not of this volume's device
}

// findSubPaths looks where the kubelet keeps the binds of the volume at p, whose path is
// <pod folder>/volumes/<plugin>/<volume>/mount. What cannot be read counts as unclear.
func findSubPaths(p *place) subPaths {
	volumeFolder := filepath.Dir(p.path)
	pod := filepath.Dir(filepath.Dir(filepath.Dir(volumeFolder)))
	held := subPaths{inodes: map[uint64]struct{}{}}
	binds := filepath.Join(pod, "volume-subpaths", filepath.Base(volumeFolder))
	containers, err := os.ReadDir(binds)
	if err != nil {
		held.unclear = !os.IsNotExist(err)
		return held
	}
	for _, container := range containers {
		indexes, err := os.ReadDir(filepath.Join(binds, container.Name()))
		if err != nil {
			held.unclear = true
			continue
		}
		for _, index := range indexes {
			held.add(filepath.Join(binds, container.Name(), index.Name()), p.device)
		}
	}
	return held
}

func (h *subPaths) add(bind string, device uint64) {
	info, err := os.Lstat(bind)
	if err != nil {
		h.unclear = true
		return
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Dev != device {
		h.unclear = true
		return
	}
	h.inodes[st.Ino] = struct{}{}
}

// keeps says whether the set must stay: a bind is of something inside it or, where a bind is unclear, it is the oldest
// there is, as at the start of the first container.
func (h *subPaths) keeps(root int, set, oldest string) bool {
	if h.unclear && set == oldest {
		return true
	}
	if len(h.inodes) == 0 {
		return false
	}
	bound := func(folder int, name string) bool {
		var st unix.Stat_t
		err := unix.Fstatat(folder, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		_, found := h.inodes[st.Ino]
		return err == nil && found
	}
	return bound(root, set) || contains(root, set, 0, func(folder int, e fs.DirEntry) bool { return bound(folder, e.Name()) })
}
