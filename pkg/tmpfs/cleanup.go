package tmpfs

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxOpenSets is how many replaced sets are kept because a container has a file of them open.
const maxOpenSets = 2

// cleanUp removes from the root of a volume everything but the current set, the links for its top-level names, and sets that a container
// uses: replaced sets, what a killed rotation has left, and what another process has made. It returns the sets that are left.
//
// A set with an open file is kept because Linux does not make a file system read-only as long as a removed file of it is open.
func cleanUp(root int, used subPathSets, current string) (sets []string, failed error) {
	entries, err := readDir(root, ".")
	if err != nil {
		return nil, err
	}
	top, _ := readDir(root, current) // empty for a set that another process has made unreadable
	// The newest set first.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(b.Name(), a.Name()) })
	oldest := ""
	for _, e := range entries {
		if e.IsDir() && isSet(e.Name()) {
			oldest = e.Name()
		}
	}
	open := 0
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == dataLink && current != "" && e.Type() == fs.ModeSymlink:
			continue
		case isLink(root, name) && slices.ContainsFunc(top, func(e fs.DirEntry) bool { return e.Name() == name }):
			continue
		case e.IsDir() && isSet(name):
			keep := name == current || used.names[name] || used.unclear && name == oldest
			if !keep && open < maxOpenSets && isOpen(root, name, 0) {
				keep = true
				open++
			}
			if keep {
				sets = append(sets, name)
				continue
			}
		}
		failed = errors.Join(failed, removeTree(root, name))
	}
	return sets, failed
}

// isOpen reports whether a process has a file below the folder called name open: the kernel grants a lease for writing only on a file that
// is open nowhere else (fcntl(2), F_SETLEASE). Open folders and working directories cannot be detected. What is deeper than a set can be,
// a container has made: it is not read.
func isOpen(parent int, name string, depth int) bool {
	folder, entries, err := openDir(parent, name)
	if err != nil {
		return false
	}
	defer func() { _ = folder.Close() }()
	return depth <= maxDepth && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		if e.IsDir() {
			return isOpen(int(folder.Fd()), e.Name(), depth+1)
		}
		fd, err := unix.Openat(int(folder.Fd()), e.Name(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return errors.Is(err, unix.EAGAIN) // a lease of another process
		}
		defer func() { _ = unix.Close(fd) }() // which also ends the lease
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
		return errors.Is(err, unix.EAGAIN)
	})
}

// removeTree removes name with everything below. The subfolders of a folder are moved up beside it, one by one: so a tree of any depth, such
// as a container can make, needs one descriptor and no recursion.
func removeTree(root int, name string) error {
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
		folders, err := emptyFolder(root, last, &moved)
		if err != nil {
			return err
		}
		pending = append(pending, folders...)
	}
	return nil
}

// emptyFolder removes the files in a folder, moves its subfolders up beside it, and returns their new names.
func emptyFolder(root int, name string, moved *int) (folders []string, err error) {
	if err := makeAccessible(root, name); err != nil {
		return nil, err
	}
	folder, entries, err := openDir(root, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	fd := int(folder.Fd())
	for _, e := range entries {
		if !e.IsDir() {
			if err := unix.Unlinkat(fd, e.Name(), 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return nil, err
			}
			continue
		}
		if err := makeAccessible(fd, e.Name()); err != nil { // a folder that is moved must be writable
			return nil, err
		}
		err := error(unix.EEXIST) // of a name that a killed removal has left
		for errors.Is(err, unix.EEXIST) {
			*moved++
			to := removePrefix + strconv.Itoa(*moved)
			if err = unix.Renameat2(fd, e.Name(), root, to, unix.RENAME_NOREPLACE); err == nil {
				folders = append(folders, to)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return folders, nil
}

// makeAccessible gives the owner all permissions on a folder, which only CAP_DAC_OVERRIDE could do without. The descriptor keeps it from
// following a link, as fchmodat(2) does.
func makeAccessible(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Chmod(procPath(fd), 0o700)
}
