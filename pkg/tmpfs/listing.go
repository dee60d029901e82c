package tmpfs

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// seal stands for the bytes of a file that its mode keeps its owner from reading, which only CAP_DAC_OVERRIDE, that the daemon does
// without, would not care about. Nobody can set the ctime of a file.
type seal struct {
	inode uint64
	size  int64
	ctime unix.Timespec
}

func newSeal(st *unix.Stat_t) seal { return seal{inode: st.Ino, size: st.Size, ctime: st.Ctim} }

// seals gives those of the files that can be written but not read, in a set that nobody else can reach yet.
func (n *set) seals(root *os.Root, name string) (map[string]seal, error) {
	sealed := map[string]seal{}
	for _, f := range n.files {
		if f.Mode&0o400 != 0 {
			continue
		}
		file, err := root.OpenFile(path.Join(name, path.Dir(f.Path)), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Fstatat(int(file.Fd()), path.Base(f.Path), &st, unix.AT_SYMLINK_NOFOLLOW)
		_ = file.Close()
		if err != nil {
			return nil, err
		}
		sealed[f.Path] = newSeal(&st)
	}
	return sealed, nil
}

// strangeError is something in a set that no set has.
type strangeError string

func (e strangeError) Error() string { return string(e) }

// listing reads a set. All is opened relative to the folder above it, without following links and without waiting for the other
// end of a FIFO.
type listing struct {
	next    *set
	known   record
	written bool

	// What a file system of its size can hold at most. A container can make files that claim to be longer, and are read as if.
	bytes int64

	entries []entry
	top     []string
	sealed  map[string]seal
	unsure  bool // a file could not be read that this process knows nothing of
}

func newListing(p *place, next *set, known record, written bool) (*listing, error) {
	st, err := statfs(p.fd)
	if err != nil {
		return nil, err
	}
	return &listing{
		next: next, known: known, written: written, sealed: map[string]seal{},
		bytes: int64(st.Blocks) * st.Bsize, //nolint:gosec // G115: our own size, bounded by Options
	}, nil
}

// maxDepth is one more than the components that a path of package volume may have.
const maxDepth = 33

func (l *listing) set(root *os.File, name string) error {
	folder, err := openFolder(int(root.Fd()), name)
	if err != nil {
		return err
	}
	return l.folder(folder, ".", 0)
}

// folder lists a folder, and closes it.
func (l *listing) folder(f *os.File, rel string, depth int) error {
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	l.entries = append(l.entries, entry{path: rel, mode: st.Mode, uid: st.Uid, gid: st.Gid})
	if depth > maxDepth {
		return strangeError("folders that are nested deeper than any of its own")
	}
	children, err := f.ReadDir(-1)
	if err != nil {
		return cause(err)
	}
	for _, child := range children {
		name := path.Join(rel, child.Name())
		if depth == 0 {
			l.top = append(l.top, child.Name())
		}
		if child.IsDir() {
			sub, err := openFolder(int(f.Fd()), child.Name())
			if err != nil {
				return err
			}
			if err := l.folder(sub, name, depth+1); err != nil {
				return err
			}
			continue
		}
		if err := l.file(int(f.Fd()), child.Name(), name); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) file(folder int, name, rel string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(folder, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return vanished(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return strangeError("something that is neither a file nor a folder")
	}
	if l.bytes -= st.Size; l.bytes < 0 {
		return strangeError("more bytes than the volume can hold")
	}
	e := entry{path: rel, mode: st.Mode, uid: st.Uid, gid: st.Gid}
	fd, err := unix.Openat(folder, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EACCES):
		e.sum = l.unreadable(rel, &st)
	case err != nil:
		return vanished(err)
	default:
		file := os.NewFile(uintptr(fd), name)
		h := sha256.New()
		_, err := io.Copy(h, io.LimitReader(file, st.Size+1))
		_ = file.Close()
		if err != nil {
			return cause(err)
		}
		h.Sum(e.sum[:0])
	}
	l.entries = append(l.entries, e)
	return nil
}

// unreadable gives the sum that next has for a file of that size if nothing has touched it since this process wrote it.
func (l *listing) unreadable(rel string, st *unix.Stat_t) (sum [sha256.Size]byte) {
	now := newSeal(st)
	l.sealed[rel] = now
	if !l.written && l.known.sealed[rel] != now {
		l.unsure = l.unsure || l.known.digest == (fingerprint{})
		return sum
	}
	for _, f := range l.next.files {
		if f.Path == rel && int64(len(f.Data.Reveal())) == st.Size {
			return sha256.Sum256(f.Data.Reveal())
		}
	}
	return sum
}

func openFolder(above int, name string) (*os.File, error) {
	fd, err := unix.Openat(above, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, vanished(err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// vanished: what was listed a moment ago is gone, is something else, or denies itself to its owner. No other process can do that to a
// read-only file system, so somebody is writing into this one.
func vanished(err error) error {
	for _, errno := range []syscall.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES, unix.ENXIO} {
		if errors.Is(err, errno) {
			return strangeError("some that change while they are read, or that may not be read")
		}
	}
	return err
}
