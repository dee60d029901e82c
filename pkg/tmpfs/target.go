package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// target is the path of a volume, and what was found there. Descriptors (O_PATH) pin its parent folder, which was seen to lie in the kubelet's
// root, and what is mounted: later steps act on that, not on what the path means by then.
type target struct {
	path string // clean
	root root
	name string // in the parent

	parent     int        // -1 if it does not exist
	parentPath string     // as in the mount table, without links
	absent     unix.Errno // why there is no parent: ENOENT, or ENOTDIR for a file

	fd   int // -1 if there is no folder
	kind kind

	// Of a mount:
	device    uint64
	current   string    // complete: the set that ..data names
	fetched   time.Time // complete: its mtime
	corrupted error     // foreign: what every access answers, because its server is gone
}

// root is the folder of the kubelet: as the operator says it, and without links, as in the mount table.
type root struct{ path, real string }

// kind is what exists at a target.
type kind int

const (
	missing    kind = iota // no such path
	notFolder              // a symbolic link or a file
	notMounted             // a folder
	incomplete             // a volume without a valid ..data, which another process has removed
	complete               // a volume
	foreign                // another mount
)

// open finds out what is at path. An error is of the kernel or volume.ErrInvalid; everything else is a kind.
func open(root root, path string) (*target, error) {
	t, err := find(root, path)
	if err != nil {
		return nil, err
	}
	if err := t.inspect(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// find cleans a path and opens its parent. A path that does not lie below the kubelet's root, as text or because a symbolic link leads out
// of it, is volume.ErrInvalid. Links that stay inside are followed.
func find(root root, path string) (*target, error) {
	clean := filepath.Clean(path)
	if !strings.HasPrefix(clean, strings.TrimSuffix(root.path, "/")+"/") || clean == "/" {
		return nil, volume.Errorf(volume.ErrInvalid, "target path %q does not lie below the kubelet's root %q (--kubelet-root)", path, root.path)
	}
	folder, name := filepath.Dir(clean), filepath.Base(clean)
	t := &target{path: clean, root: root, name: name, parent: -1, parentPath: folder, fd: -1}
	fd, resolved, err := openBelow(root.real, folder)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return nil, volume.Errorf(volume.ErrInvalid, "target path %q leaves the kubelet's root %q by a symbolic link", clean, root.path)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		t.absent = err.(unix.Errno) //nolint:errorlint // of a system call
	case err != nil:
		return nil, fmt.Errorf("look at target path %q: %w", clean, err)
	default:
		t.parent, t.parentPath = fd, resolved
	}
	return t, nil
}

// openBelow opens a folder and returns where symbolic links have led: EXDEV if that is outside of root, ELOOP if the links form
// a loop.
func openBelow(root, folder string) (fd int, path string, err error) {
	fd, err = unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	path, err = os.Readlink(procPath(fd))
	if err == nil && path != root && !strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/") {
		err = unix.EXDEV
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", err
	}
	return fd, path, nil
}

func (t *target) close() {
	t.closeFolder()
	if t.parent >= 0 {
		_ = unix.Close(t.parent) // nothing was written through it
		t.parent = -1
	}
}

func (t *target) closeFolder() {
	if t.fd >= 0 {
		_ = unix.Close(t.fd) // nothing was written through it
		t.fd = -1
	}
}

// inspect opens the target, without following a link, and finds out what it is.
func (t *target) inspect() (err error) {
	t.closeFolder()
	if t.parent < 0 {
		err = t.absent
	} else if t.fd, err = unix.Openat(t.parent, t.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		err = t.refresh()
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		t.kind, err = missing, nil
	case errors.Is(err, unix.ENOTDIR):
		t.kind, err = notFolder, nil
	case mount.IsCorruptedMnt(err) && t.mountEntry() != nil:
		t.kind, t.corrupted, err = foreign, err, nil
	case err != nil:
		err = fmt.Errorf("look at target path %q: %w", t.path, err)
	}
	return err
}

// refresh reads again what the descriptor refers to.
func (t *target) refresh() error {
	t.current, t.fetched = "", time.Time{}
	var st unix.Statx_t
	if err := unix.Statx(t.fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	t.device = unix.Mkdev(st.Dev_major, st.Dev_minor)
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		t.kind = notMounted
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(t.fd, &fs); err != nil {
		return err
	}
	t.kind = foreign
	if fs.Type != unix.TMPFS_MAGIC {
		return nil
	}
	if fs.Flags&ownFlags == ownFlags {
		t.kind = incomplete
	}
	return t.findSet()
}

// ownFlags are the flags of every mount that this package attaches. They distinguish a volume with damaged content from another tmpfs.
const ownFlags = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC

// findSet reads ..data and looks for the folder that it names.
func (t *target) findSet() error {
	buf := make([]byte, len(setLayout)+1)
	n, err := unix.Readlinkat(t.fd, dataLink, buf)
	current := string(buf[:max(n, 0)])
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), err == nil && !isSet(current):
		return nil
	case err != nil:
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(t.fd, current, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT), err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return nil
	case err != nil:
		return err
	}
	t.kind, t.current, t.fetched = complete, current, time.Unix(st.Mtim.Unix())
	return nil
}

func (t *target) rmdir() error {
	if t.parent < 0 {
		return t.absent
	}
	return unix.Unlinkat(t.parent, t.name, unix.AT_REMOVEDIR)
}

// withFolder calls fn with a descriptor of the folder of the target, which is made if it is missing, and removed again if fn fails.
func (t *target) withFolder(fn func(folder int) error) (err error) {
	made := error(t.absent)
	if t.parent >= 0 {
		made = unix.Mkdirat(t.parent, t.name, 0o750)
	}
	if link, to := dangling(t.root.path, filepath.Dir(t.path)); t.parent < 0 && link != "" {
		return fmt.Errorf("make the folder of the target: the symbolic link %q leads to %q, which is not there for the driver; "+
			"let the kubelet's --root-dir and kubeletRootDir of the chart name the real folder", link, to)
	}
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return wrap("make the folder of the target", made)
	}
	defer func() {
		if err != nil && made == nil {
			_ = t.rmdir() // fails if another process has written into it
		}
	}()
	folder, err := unix.Openat(t.parent, t.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open the folder of the target", err)
	}
	defer func() { _ = unix.Close(folder) }()
	return fn(folder)
}

// dangling returns the first symbolic link between root and folder that leads nowhere, and its destination. It is for an
// error only: the path may change meanwhile.
func dangling(root, folder string) (link, to string) {
	below := strings.Split(strings.TrimPrefix(strings.TrimPrefix(folder, root), "/"), "/")
	for i := range below {
		path := filepath.Join(root, filepath.Join(below[:i+1]...))
		if to, err := os.Readlink(path); err == nil {
			if _, err := os.Stat(path); errors.Is(err, unix.ENOENT) {
				return path, to
			}
		}
	}
	return "", ""
}

// statfs returns the size of the tmpfs at the descriptor, and what of it is used.
func statfs(fd int) (total, used capacity, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return capacity{}, capacity{}, err
	}
	block := int64(st.Bsize) //nolint:unconvert // an int32 on 32-bit architectures
	//nolint:gosec // G115: sizes that Options bounds
	total, free := capacity{int64(st.Blocks) * block, int64(st.Files)}, capacity{int64(st.Bfree) * block, int64(st.Ffree)}
	return total, capacity{total.bytes - free.bytes, total.inodes - free.inodes}, nil
}

// procPath is a path to what the descriptor refers to, for calls that only take paths.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
