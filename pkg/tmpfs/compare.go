package tmpfs

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// fingerprint stands for the names, types, modes, owners and bytes of a set. It is keyed, so that it says nothing about a value to
// whoever sees the memory of the process after the values are gone from it.
type fingerprint [sha256.Size]byte

// entry is a folder or a file of a set. Its path is relative to the set; "." is the set itself.
type entry struct {
	path     string
	mode     uint32 // type and permissions, as in stat(2)
	uid, gid uint32
	sum      [sha256.Size]byte // of the bytes of a file
}

func (s *Store) sum(data []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, s.key[:])
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}

func (s *Store) fingerprint(entries []entry) (digest fingerprint) {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	h := hmac.New(sha256.New, s.key[:])
	for _, e := range entries {
		fmt.Fprintf(h, "%q %o %d %d %x\n", e.path, e.mode, e.uid, e.gid, e.sum)
	}
	h.Sum(digest[:0])
	return digest
}

// expected gives the entries that the set has on disk.
func (s *Store) expected(n *set) []entry {
	folder := n.folderBits()
	entries := []entry{{path: ".", mode: folder, uid: n.uid, gid: n.gid}}
	for _, f := range n.folders {
		entries = append(entries, entry{path: f, mode: folder, uid: n.uid, gid: n.gid})
	}
	for _, f := range n.files {
		entries = append(entries, entry{path: f.Path, mode: uint32(f.Mode.Perm()) | unix.S_IFREG, uid: n.uid, gid: n.gid, sum: s.sum(f.Data.Reveal())})
	}
	return entries
}

// folderBits is the mode of a folder as stat(2) gives it.
func (n *set) folderBits() uint32 {
	bits := uint32(n.folderMode.Perm()) | unix.S_IFDIR
	if n.folderMode&fs.ModeSetgid != 0 {
		bits |= unix.S_ISGID
	}
	return bits
}

// verdict is the result of comparing a volume with the set that it should hold.
type verdict struct {
	same     bool            // it holds just that set
	untidy   bool            // beside it lies what the driver itself has left behind
	tampered string          // what somebody else has changed; empty if nothing
	digest   fingerprint     // of what it holds
	sealed   map[string]seal // of the files that cannot be read
}

// compare holds the volume at p against next, and against what this process knows to have left there. It writes nothing, and a
// container that changes the volume meanwhile can neither make it hang nor lead it out of the volume.
//
// written says that next was written by the running call: files that their mode keeps from being read count as right then.
func (s *Store) compare(p *place, next *set, known record, written bool) (v verdict, err error) {
	root, err := openFolder(p.fd, ".")
	if err != nil {
		return v, err
	}
	defer func() { _ = root.Close() }()
	if p.state != complete {
		v.tampered = "..data, which leads to its files, is gone"
		return v, nil
	}
	l := listing{store: s, next: next, known: known, written: written, sealed: map[string]seal{}}
	if err := l.set(root, p.current); err != nil {
		if strange, ok := errors.AsType[strangeError](err); ok {
			v.tampered = string(strange)
			return v, nil
		}
		return v, err
	}
	v.digest, v.sealed = s.fingerprint(l.entries), l.sealed
	v.same = v.digest == s.fingerprint(s.expected(next))
	if !v.same && known.digest != (fingerprint{}) && known.digest != v.digest {
		v.tampered = "the names, bytes, modes or owners of its files"
	}
	if changed, untidy, err := checkRoot(root, p.current, l.top, next); err != nil || changed != "" {
		v.same, v.tampered = false, cmp.Or(v.tampered, changed)
		return v, err
	} else if untidy {
		v.untidy = true
	}
	return v, nil
}

// checkRoot looks at what stands beside the set: its links, which must be there and lead to it, and what a killed rotation or a
// subPath has left.
func checkRoot(root *os.File, current string, top []string, next *set) (changed string, untidy bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return "", false, err
	}
	if st.Mode != next.folderBits() || st.Uid != next.uid || st.Gid != next.gid {
		return "the mode or the owner of its root folder", false, nil
	}
	entries, err := root.ReadDir(-1)
	if err != nil {
		return "", false, cause(err)
	}
	linked := 0
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == dataLink, name == current:
		case e.IsDir() && (isSet(name) || strings.HasPrefix(name, removePrefix)), name == nextLink && e.Type() == fs.ModeSymlink:
			untidy = true
		case !isLink(int(root.Fd()), name):
			return fmt.Sprintf("%q stands in it and is none of its links", name), false, nil
		case slices.Contains(top, name):
			linked++
		default:
			untidy = true
		}
	}
	if linked != len(top) {
		return "links to its files are missing", untidy, nil
	}
	return "", untidy, nil
}

// isLink says whether name is the link that the driver makes for a top-level name.
func isLink(root int, name string) bool {
	want := path.Join(dataLink, name)
	buf := make([]byte, len(want)+1)
	n, err := unix.Readlinkat(root, name, buf)
	return err == nil && string(buf[:n]) == want
}

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
	store   *Store
	next    *set
	known   record
	written bool

	entries []entry
	top     []string
	sealed  map[string]seal
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
		return strangeError("folders are nested deeper than any of its own")
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
		return strangeError(fmt.Sprintf("%q is neither a file nor a folder", rel))
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
		data, err := io.ReadAll(io.LimitReader(file, st.Size+1))
		_ = file.Close()
		if err != nil {
			return cause(err)
		}
		e.sum = l.store.sum(data)
		clear(data)
	}
	l.entries = append(l.entries, e)
	return nil
}

// unreadable gives the sum that next has for a file of that size if nothing has touched it since this process wrote it.
func (l *listing) unreadable(rel string, st *unix.Stat_t) (sum [sha256.Size]byte) {
	now := newSeal(st)
	l.sealed[rel] = now
	if !l.written && l.known.sealed[rel] != now {
		return sum
	}
	for _, f := range l.next.files {
		if f.Path == rel && int64(len(f.Data.Reveal())) == st.Size {
			return l.store.sum(f.Data.Reveal())
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
			return strangeError("files that change while they are read, or that may not be read")
		}
	}
	return err
}
