package tmpfs

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fingerprint stands for the names, types, modes, owners and bytes of a set. It lives no longer than the set, which holds the values
// themselves.
type fingerprint [sha256.Size]byte

// entry is a folder or a file of a set. Its path is relative to the set; "." is the set itself.
type entry struct {
	path     string
	mode     uint32 // type and permissions, as in stat(2)
	uid, gid uint32
	sum      [sha256.Size]byte // of the bytes of a file
}

func fingerprintOf(entries []entry) (digest fingerprint) {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%q %o %d %d %x\n", e.path, e.mode, e.uid, e.gid, e.sum)
	}
	h.Sum(digest[:0])
	return digest
}

// fingerprint is that of the set as it should be on disk.
func (n *set) fingerprint() fingerprint {
	folder := n.folderBits()
	entries := []entry{{path: ".", mode: folder, uid: n.uid, gid: n.gid}}
	for _, f := range n.folders {
		entries = append(entries, entry{path: f, mode: folder, uid: n.uid, gid: n.gid})
	}
	for _, f := range n.files {
		entries = append(entries, entry{path: f.Path, mode: uint32(f.Mode.Perm()) | unix.S_IFREG, uid: n.uid, gid: n.gid, sum: sha256.Sum256(f.Data.Reveal())})
	}
	return fingerprintOf(entries)
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

// compare holds the volume at p against next, and against what the driver is known to have left there. It writes nothing, and a
// container that changes the volume meanwhile can neither make it hang nor lead it out of the volume. No text that it gives holds a
// name or a byte that a container has chosen: those may be a secret.
//
// written says that next was written by the running call: files that their mode keeps from being read count as right then.
func compare(p *place, next *set, known record, written bool) (v verdict, err error) {
	root, err := openFolder(p.fd, ".")
	if err != nil {
		return v, err
	}
	defer func() { _ = root.Close() }()
	if p.state != complete {
		v.tampered = "..data, which leads to its files, is gone"
		return v, nil
	}
	l, err := newListing(p, next, known, written)
	if err != nil {
		return v, err
	}
	err = l.set(root, p.current)
	if strange, ok := errors.AsType[strangeError](err); ok {
		v.tampered = "its files: " + string(strange)
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.digest, v.sealed = fingerprintOf(l.entries), l.sealed
	v.same = v.digest == next.digest
	if !v.same && !l.unsure && changed(root, p.current, known.digest, v.digest) {
		v.tampered = "the names, bytes, modes or owners of its files"
	}
	beside, untidy, err := checkRoot(root, p.current, l.top, next)
	if beside != "" {
		v.same, v.tampered = false, cmp.Or(v.tampered, beside)
	}
	v.untidy = untidy
	return v, err
}

// changed says whether a set is another than the driver has left. A process that has not seen it before asks the set itself.
func changed(root *os.File, set string, known, found fingerprint) bool {
	if known == (fingerprint{}) {
		written, said := readMark(root, set)
		return said && written != found
	}
	return known != found
}

// checkRoot looks at what stands beside the set: its links, which must be there and lead to it, and what a killed rotation or a
// subPath has left.
func checkRoot(root *os.File, current string, top []string, next *set) (beside string, untidy bool, err error) {
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
			return "what stands beside its files: a name that is none of its links", false, nil
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
