package tmpfs

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxOpenSets is how many replaced sets are kept because a container still has a file of them open.
const maxOpenSets = 2

// sweep removes from the root of a volume whatever is not of the current set, not the right link for one of the names in top, and
// not a set that a container still uses: replaced sets, what a killed rotation left behind, and what somebody else has put there.
//
// A set with an open file is kept because Linux does not make a file system read-only as long as a removed file of it is open
// (sb_prepare_remount_readonly): a container that holds an old file would keep the whole volume writable.
func sweep(root *os.Root, held subPaths, current string, top []string) error {
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(b.Name(), a.Name()) }) // the newest set first
	oldest := ""
	for _, e := range entries {
		if e.IsDir() && isSet(e.Name()) {
			oldest = e.Name()
		}
	}
	var failed error
	open := 0
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == dataLink && current != "" && e.Type() == fs.ModeSymlink, name == current && e.IsDir():
			continue
		case slices.Contains(top, name) && isLink(int(folder.Fd()), name):
			continue
		case e.IsDir() && isSet(name):
			if held.keeps(int(folder.Fd()), name, oldest) {
				continue
			}
			if open < maxOpenSets && isOpen(int(folder.Fd()), name) {
				open++
				continue
			}
		}
		failed = errors.Join(failed, remove(int(folder.Fd()), name))
	}
	return failed
}

// isUsed says whether a container uses the set, so that sweep would leave it.
func isUsed(root *os.Root, held subPaths, set string) bool {
	folder, err := root.Open(".")
	if err != nil || set == "" {
		return false
	}
	defer func() { _ = folder.Close() }()
	return held.keeps(int(folder.Fd()), set, set) || isOpen(int(folder.Fd()), set)
}

// isOpen says whether some process has a file below the folder called name open. The kernel grants a lease for writing only on a
// file that is open nowhere else (fcntl(2), F_SETLEASE). A folder that is open, or somebody's working directory, cannot be
// seen this way.
func isOpen(above int, name string) bool {
	return contains(above, name, 0, func(folder int, e fs.DirEntry) bool {
		return e.Type().IsRegular() && isFileOpen(folder, e.Name())
	})
}

// contains says whether one of the entries below the folder called name matches. It opens everything relative to the folder above and
// follows no link; what lies deeper than a set can be is not looked at, because a container has made it.
func contains(above int, name string, depth int, match func(folder int, e fs.DirEntry) bool) bool {
	folder, err := openFolder(above, name)
	if err != nil {
		return false
	}
	defer func() { _ = folder.Close() }()
	entries, err := folder.ReadDir(-1)
	if err != nil || depth > maxDepth {
		return false
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return match(int(folder.Fd()), e) || e.IsDir() && contains(int(folder.Fd()), e.Name(), depth+1, match)
	})
}

func isFileOpen(folder int, name string) bool {
	fd, err := unix.Openat(folder, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // which also ends the lease
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	return errors.Is(err, unix.EAGAIN)
}

// remove removes name from the folder, with all that is below. Folders are emptied by moving what they hold up beside them, one
// at a time: so a tree of any depth, such as a container may have made, takes one descriptor and no recursion.
func remove(root int, name string) error {
	pending, moved := []string{name}, 0
	for len(pending) > 0 {
		last := pending[len(pending)-1]
		err := unix.Unlinkat(root, last, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
			err = unix.Unlinkat(root, last, unix.AT_REMOVEDIR)
		}
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			pending = pending[:len(pending)-1]
			continue
		case !errors.Is(err, unix.ENOTEMPTY):
			return err
		}
		children, err := moveUp(root, last, &moved)
		if err != nil {
			return err
		}
		pending = append(pending, children...)
	}
	return nil
}

// moveUp empties a folder: what is no folder is removed, the others are moved to its side and named.
func moveUp(root int, name string, moved *int) (folders []string, err error) {
	if err := unlockFolder(root, name); err != nil {
		return nil, err
	}
	folder, err := openFolder(root, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			if err := unix.Unlinkat(int(folder.Fd()), e.Name(), 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return nil, err
			}
			continue
		}
		if err := unlockFolder(int(folder.Fd()), e.Name()); err != nil { // to be moved it must be writable
			return nil, err
		}
		for err := error(unix.EEXIST); err != nil; {
			*moved++
			to := removePrefix + strconv.Itoa(*moved)
			err = unix.Renameat2(int(folder.Fd()), e.Name(), root, to, unix.RENAME_NOREPLACE)
			switch {
			case err == nil:
				folders = append(folders, to)
			case !errors.Is(err, unix.EEXIST): // EEXIST: a killed removal has left that name
				return nil, err
			}
		}
	}
	return folders, nil
}

// unlockFolder opens a folder to its owner: whoever made it may have closed it, and only CAP_DAC_OVERRIDE would not care about
// that. The descriptor keeps a link that somebody puts in its place from being followed, as fchmodat(2) does.
func unlockFolder(above int, name string) error {
	fd, err := unix.Openat(above, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Chmod(procPath(fd), 0o700)
}
