package tmpfs

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// comparison is the result of comparing a volume with the set that it should hold.
type comparison struct {
	same      bool        // it holds exactly that set
	leftovers bool        // beside the set are files that the driver itself has left
	tampered  string      // what another process has changed; empty if nothing
	digest    fingerprint // of the set that it holds
}

// compare compares the volume at t with next, and with what the driver has left there. A container that changes the volume at the same time
// can neither make it hang nor make it read elsewhere. No result contains a name or a byte that a container has chosen: it may be a secret.
func compare(t *target, next *set, known record) (c comparison, err error) {
	if t.kind != complete {
		c.tampered = "..data, which leads to its files, is gone"
		return c, nil
	}
	total, _, err := statfs(t.fd)
	if err != nil {
		return c, err
	}
	r := &setReader{bytes: total.bytes, known: known, held: next.keepable()}
	if err := r.readFolder(t.fd, t.current, ".", 0); err != nil {
		tampered, ok := errors.AsType[tamperedError](err)
		if !ok {
			return c, err
		}
		c.tampered = "its files: " + string(tampered)
		return c, nil
	}
	c.digest = fingerprintOf(r.entries)
	c.same = c.digest == next.digest
	if !c.same && !r.unknown {
		written, stored := known.digest, known.digest != fingerprint{}
		if !stored { // this process has not compared it before
			written, stored = readDigest(t.fd, t.current)
		}
		switch {
		case stored && written != c.digest:
			c.tampered = "the names, bytes, modes or owners of its files"
		case stored:
			c.same = next.keep(r.held, c.digest)
		}
	}
	beside, leftovers, err := compareRoot(t, r.top, next)
	if beside != "" {
		c.same, c.tampered = false, cmp.Or(c.tampered, beside)
	}
	c.leftovers = leftovers
	return c, err
}

// compareRoot compares what is beside the set: the links of its top-level names, and what a killed rotation or a subPath has left.
func compareRoot(t *target, top []string, next *set) (tampered string, leftovers bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(t.fd, ".", &st, 0); err != nil {
		return "", false, err
	}
	if st.Mode != next.folder.mode || st.Uid != next.folder.uid || st.Gid != next.folder.gid {
		return "the mode or the owner of its root folder", false, nil
	}
	entries, err := readDir(t.fd, ".")
	if err != nil {
		return "", false, err
	}
	linked := 0
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == dataLink, name == t.current:
		case e.IsDir() && (isSet(name) || strings.HasPrefix(name, removePrefix)), name == nextLink && e.Type() == fs.ModeSymlink:
			leftovers = true
		case !isLink(t.fd, name):
			return "what stands beside its files: a name that is none of its links", false, nil
		case slices.Contains(top, name):
			linked++
		default:
			leftovers = true
		}
	}
	if linked != len(top) {
		return "links to its files are missing", leftovers, nil
	}
	return "", leftovers, nil
}

// isLink reports whether name is the link that the driver makes for a top-level name.
func isLink(root int, name string) bool {
	want := path.Join(dataLink, name)
	buf := make([]byte, len(want)+1)
	n, err := unix.Readlinkat(root, name, buf)
	return err == nil && string(buf[:n]) == want
}

// fileVersion identifies the content of a file whose mode keeps its owner from reading it, without CAP_DAC_OVERRIDE. No process can set
// the ctime of a file.
type fileVersion struct {
	path  string
	inode uint64
	size  int64
	ctime unix.Timespec
}

func versionOf(path string, st *unix.Stat_t) fileVersion {
	return fileVersion{path: path, inode: st.Ino, size: st.Size, ctime: st.Ctim}
}

// tamperedError reports something in a set that the driver never writes.
type tamperedError string

func (e tamperedError) Error() string { return string(e) }

// setReader reads a set. Everything is opened relative to its parent, without following links and without waiting for the other end of a
// FIFO.
type setReader struct {
	known record
	held  map[string][]byte // by path: the bytes of the files that are in it
	bytes int64             // that files may have together: the size of the tmpfs, because a container can make sparse files of any size

	entries []entry
	top     []string
	unknown bool // a file cannot be read, and this process has not written it
}

// maxDepth is one more than a path of package volume may have.
const maxDepth = 33

// readFolder reads the folder called name in parent; rel is its path in the set.
func (r *setReader) readFolder(parent int, name, rel string, depth int) error {
	if depth > maxDepth {
		return tamperedError("folders that are nested deeper than any of its own")
	}
	folder, children, err := openDir(parent, name)
	if err != nil {
		return vanished(err)
	}
	defer func() { _ = folder.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(folder.Fd()), &st); err != nil {
		return err
	}
	r.entries = append(r.entries, entry{path: rel, mode: st.Mode, uid: st.Uid, gid: st.Gid})
	for _, child := range children {
		if depth == 0 {
			r.top = append(r.top, child.Name())
		}
		read := r.readFile
		if child.IsDir() {
			read = r.readFolder
		}
		if err := read(int(folder.Fd()), child.Name(), path.Join(rel, child.Name()), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *setReader) readFile(folder int, name, rel string, _ int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(folder, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return vanished(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return tamperedError("something that is neither a file nor a folder")
	}
	if r.bytes -= st.Size; r.bytes < 0 {
		return tamperedError("more bytes than the volume can hold")
	}
	e := entry{path: rel, mode: st.Mode, uid: st.Uid, gid: st.Gid}
	fd, err := unix.Openat(folder, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EACCES):
		var written bool
		if e.hash, written = r.known.unreadable[versionOf(rel, &st)]; !written {
			r.unknown = r.known.digest == fingerprint{}
		}
	case err != nil:
		return vanished(err)
	default:
		file := os.NewFile(uintptr(fd), name)
		e.hash, err = r.hash(rel, io.LimitReader(file, st.Size+1))
		_ = file.Close()
		if err != nil {
			return cause(err)
		}
	}
	r.entries = append(r.entries, e)
	return nil
}

// hash reads a file, and keeps its bytes if they are asked for.
func (r *setReader) hash(path string, file io.Reader) (hash contentHash, err error) {
	if _, hold := r.held[path]; hold {
		data, err := io.ReadAll(file)
		r.held[path] = data
		return sha256.Sum256(data), err
	}
	h := sha256.New()
	_, err = io.Copy(h, file)
	h.Sum(hash[:0])
	return hash, err
}

// readDir reads the entries of the folder called name in parent, without following a link.
func readDir(parent int, name string) ([]fs.DirEntry, error) {
	folder, entries, err := openDir(parent, name)
	if err == nil {
		_ = folder.Close()
	}
	return entries, err
}

// openDir is readDir, and returns the open folder too.
func openDir(parent int, name string) (*os.File, []fs.DirEntry, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	folder := os.NewFile(uintptr(fd), name)
	entries, err := folder.ReadDir(-1)
	if err != nil {
		_ = folder.Close()
		return nil, nil, cause(err)
	}
	return folder, entries, nil
}

// vanished maps the errors of a file that was listed before and is gone, is of another type, or denies access to its owner. On a read-only
// file system no other process can do that, so one is writing into it. EAGAIN is the lease of another process, which the root of a
// container may take on a file that it can only read. It must not prevent later sets.
func vanished(err error) error {
	for _, errno := range []syscall.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES, unix.ENXIO} {
		if errors.Is(err, errno) {
			return tamperedError("some that change while they are read, or that may not be read")
		}
	}
	if errors.Is(err, unix.EAGAIN) {
		return tamperedError("one that cannot be read, because a process has a lease on it (F_SETLEASE)")
	}
	return err
}
