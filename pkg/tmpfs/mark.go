package tmpfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// markName is an extended attribute that only a process with CAP_SYS_ADMIN in the machine's own user namespace can set, change or see
// (xattr(7)). So a set can say itself what the driver has written, to a process that has not seen it before: one that was killed
// while the file system was writable has a successor that can tell what a container did meanwhile from an old value.
//
// On a set it holds the fingerprint; on the root of a volume it says that all its sets have one, so that a container cannot pass off a
// set of its own as one from before.
const markName = "trusted.keyvault-csi"

// noMarks are the answers where there are no such attributes: in a user namespace, and of a kernel without CONFIG_TMPFS_XATTR.
func noMarks(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)
}

// markVolume says of the volume that its sets are marked.
func markVolume(root *os.Root) error { return setMark(root, ".", []byte{1}) }

// mark says of the set what is written in it.
func (n *set) mark(root *os.Root, name string) error { return setMark(root, name, n.digest[:]) }

func setMark(root *os.Root, name string, value []byte) error {
	folder, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	if err := unix.Fsetxattr(int(folder.Fd()), markName, value, 0); err != nil && !noMarks(err) {
		return &os.PathError{Op: "setxattr", Path: name, Err: err}
	}
	return nil
}

// readMark gives the fingerprint that the driver has left on a set; said is false if the volume has no marks. A set without one in a
// volume that has them is not the driver's: it has the zero fingerprint, which no set has.
func readMark(root *os.File, set string) (digest fingerprint, said bool) {
	var one [1]byte
	if n, err := unix.Fgetxattr(int(root.Fd()), markName, one[:]); err != nil || n != len(one) {
		return digest, false
	}
	folder, err := openFolder(int(root.Fd()), set)
	if err != nil {
		return digest, true
	}
	defer func() { _ = folder.Close() }()
	if n, err := unix.Fgetxattr(int(folder.Fd()), markName, digest[:]); err != nil || n != len(digest) {
		return fingerprint{}, true
	}
	return digest, true
}
