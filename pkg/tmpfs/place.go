package tmpfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// state is what stands at a target.
type state int

const (
	missing    state = iota // no such path, or a parent is missing
	notFolder               // a symbolic link or a file
	notMounted              // a folder
	incomplete              // a volume without ..data: one that the classic way was killed in, or whose ..data somebody removed
	complete                // a volume
	foreign                 // another mount
)

// place is a target that has been looked at. The descriptor (O_PATH, so it opens nothing and follows no link) pins what was
// seen: later steps act on that, not on what a path means by then.
type place struct {
	path  string
	at    *target
	fd    int // -1 if there is no folder
	state state

	// Of a mount:
	corrupted error // foreign: what every access answers, because the server behind it is gone
	device    uint64
	current   string    // complete: what ..data names
	fetched   time.Time // complete: the mtime of current
}

// open looks at what is there. An error is trouble of the kernel's; everything else is a state.
func (t *target) open() (*place, error) {
	p := &place{path: t.path, at: t, fd: -1}
	fd, err := t.openFolder()
	switch {
	case errors.Is(err, unix.ENOENT):
		return p, nil
	case errors.Is(err, unix.ENOTDIR):
		p.state = notFolder
		return p, nil
	case err == nil:
		p.fd = fd
		err = p.inspect()
	}
	if mount.IsCorruptedMnt(err) && p.mountEntry() != nil {
		p.state, p.corrupted, err = foreign, err, nil
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("look at target path %q: %w", t.path, err)
	}
	return p, nil
}

func (p *place) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd) // nothing was written through it
		p.fd = -1
	}
}

func (p *place) inspect() error {
	var st unix.Statx_t
	if err := unix.Statx(p.fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	p.device = unix.Mkdev(st.Dev_major, st.Dev_minor)
	mounted, err := p.isMountRoot(&st)
	if err != nil {
		return err
	}
	if !mounted {
		p.state = notMounted
		return nil
	}
	sfs, err := statfs(p.fd)
	if err != nil {
		return err
	}
	if sfs.Type != unix.TMPFS_MAGIC {
		p.state = foreign
		return nil
	}
	return p.inspectData(sfs.Flags)
}

// isMountRoot asks the kernel directly from Linux 5.8 on. Before, a tmpfs is known by its device, which is never
// that of the folder above it.
func (p *place) isMountRoot(st *unix.Statx_t) (bool, error) {
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	var above unix.Stat_t
	if err := unix.Fstatat(p.fd, "..", &above, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	return above.Dev != p.device, nil
}

// ownFlags are those of every mount that this package attaches. No container can change them: its own mount is another one. So they tell
// a volume whose content somebody has spoilt from a tmpfs that is not ours.
const ownFlags = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC

// inspectData looks for the mark of a complete set: ..data, and the folder that it names.
func (p *place) inspectData(flags int64) error {
	p.state, p.current, p.fetched = foreign, "", time.Time{}
	if flags&ownFlags == ownFlags {
		p.state = incomplete
	}
	buf := make([]byte, len(folderLayout)+1)
	n, err := unix.Readlinkat(p.fd, dataLink, buf)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), err == nil && !isSet(string(buf[:n])):
		return nil
	case err != nil:
		return err
	}
	current := string(buf[:n])
	var st unix.Stat_t
	switch err := unix.Fstatat(p.fd, current, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT), err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return nil
	case err != nil:
		return err
	}
	p.state, p.current = complete, current
	p.fetched = time.Unix(st.Mtim.Unix())
	return nil
}

// mustBeEmpty keeps a mount from hiding files that this driver has not written, and that nobody could then remove.
func (p *place) mustBeEmpty() error {
	dir, err := os.Open(procPath(p.fd))
	if err != nil {
		return fmt.Errorf("look at target path %q: %w", p.path, cause(err))
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(1)
	switch {
	case len(names) > 0:
		return fmt.Errorf("target path %q is no mount and not empty: its files are not this driver's; move them away", p.path)
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("look at target path %q: %w", p.path, cause(err))
	}
	return nil
}

// describe names the foreign mount for an error, with advice.
func (p *place) describe() string {
	entry := p.mountEntry()
	switch {
	case entry == nil:
		return "an unknown file system, which this driver has not mounted; unmount it"
	case p.corrupted != nil:
		return fmt.Sprintf("a file system of type %s from %q that no longer answers (%v), which this driver has not mounted; delete the pod or unmount it",
			entry.FSType, entry.Source, p.corrupted)
	default:
		return fmt.Sprintf("a file system of type %s from %q, which this driver has not mounted; unmount it", entry.FSType, entry.Source)
	}
}

// mountEntry returns the entry of the topmost mount at the path, nil if there is none. It makes no access to the file system.
func (p *place) mountEntry() *mountinfo.Info {
	path := p.at.real()
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != path, false })
	if err != nil || len(entries) == 0 {
		return nil
	}
	return entries[len(entries)-1]
}

// procPath is a path to what the descriptor refers to, for calls that only take paths.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func statfs(fd int) (st unix.Statfs_t, err error) {
	err = unix.Fstatfs(fd, &st)
	return st, err
}

// cause takes from an error of package os what the kernel said. The paths around it hold descriptors and times, which
// would make the text a new one each time.
func cause(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}
