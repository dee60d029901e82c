package tmpfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// target is a path at which a volume is, or is to be: a folder, and a name in it. The descriptor pins the folder, which was
// seen to lie in the kubelet's root; whoever swaps it for a symbolic link after that changes nothing.
type target struct {
	path   string // clean
	root   string // the kubelet's
	folder string // that the target lies in, relative to root
	name   string

	parent int        // the folder (O_PATH); -1 if there is none
	absent unix.Errno // and why: ENOENT, or ENOTDIR where there is a file
}

// find cleans a path and opens the folder that it lies in. It refuses a path that does not lie below the kubelet's root, as
// text or because a symbolic link on the way leads out of it. What a link inside the root points to inside the root is
// fine.
func (s *Store) find(path string) (*target, error) {
	clean := filepath.Clean(path)
	inside, found := strings.CutPrefix(clean, strings.TrimSuffix(s.root, "/")+"/")
	if !filepath.IsAbs(clean) || !found {
		return nil, volume.Errorf(volume.ErrInvalid, "target path %q does not lie below the kubelet's root %q (--kubelet-root)", path, s.root)
	}
	t := &target{path: clean, root: s.root, folder: filepath.Dir(inside), name: filepath.Base(clean)}
	if err := t.pin(); err != nil {
		return nil, err
	}
	return t, nil
}

// pin opens the folder that the target lies in.
func (t *target) pin() (err error) {
	t.parent, err = openBeneath(t.root, t.folder)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return volume.Errorf(volume.ErrInvalid, "target path %q leaves the kubelet's root %q by a symbolic link", t.path, t.root)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		t.parent, t.absent = -1, err.(unix.Errno) //nolint:errorlint // of a system call
	case err != nil:
		return fmt.Errorf("look at target path %q: %w", t.path, err)
	}
	return nil
}

func (t *target) close() {
	if t.parent >= 0 {
		_ = unix.Close(t.parent) // nothing was written through it
		t.parent = -1
	}
}

// openFolder opens the target if it is a folder, and not a link to one.
func (t *target) openFolder() (int, error) {
	if t.parent < 0 {
		return -1, t.absent
	}
	return unix.Openat(t.parent, t.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// real is the path of the target as the mount table has it, without links. Where its folder is gone, so is whatever was mounted there, and
// the path that was asked for must do.
func (t *target) real() string {
	if t.parent >= 0 {
		if folder, err := readlink(t.parent); err == nil {
			return filepath.Join(folder, t.name)
		}
	}
	return t.path
}

func (t *target) rmdir() error {
	if t.parent < 0 {
		return t.absent
	}
	return unix.Unlinkat(t.parent, t.name, unix.AT_REMOVEDIR)
}

func (t *target) mkdir() error {
	if t.parent < 0 {
		return t.absent
	}
	return unix.Mkdirat(t.parent, t.name, 0o750)
}

// with gives fn a descriptor of the target, which is made if it is missing, and removed again if fn fails.
func (t *target) with(fn func(folder int) error) (err error) {
	made := t.mkdir()
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return fmt.Errorf("make the folder of the target: %w", made)
	}
	defer func() {
		if err != nil && made == nil {
			_ = t.rmdir() // fails if somebody else has put something there
		}
	}()
	folder, err := t.openFolder()
	if err != nil {
		return fmt.Errorf("open the folder of the target: %w", err)
	}
	defer func() { _ = unix.Close(folder) }()
	return fn(folder)
}

// openBeneath opens a folder below the root, given relative to it, if no symbolic link on the way leads out; EXDEV or ELOOP
// if one does. How the root itself is reached is the operator's word.
func openBeneath(root, folder string) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	base, err := unix.Open(root, flags, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(base) }()
	how := unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for try := 1; ; try++ {
		fd, err := unix.Openat2(base, folder, &how)
		switch {
		case errors.Is(err, unix.EAGAIN) && try < 100: // somebody renames something on the way
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), // Linux before 5.6, or a seccomp filter
			errors.Is(err, unix.EXDEV): // also of an absolute link, wherever it leads
			return openResolved(base, folder)
		}
		return fd, err
	}
}

// openResolved does the same without openat2(2), which takes every absolute link for one that leads out: it opens first and
// looks then where that has led.
func openResolved(base int, folder string) (int, error) {
	fd, err := unix.Openat(base, folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	above, errAbove := readlink(base)
	path, errPath := readlink(fd)
	if err := errors.Join(errAbove, errPath); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if path != above && !strings.HasPrefix(path, strings.TrimSuffix(above, "/")+"/") {
		_ = unix.Close(fd)
		return -1, unix.EXDEV
	}
	return fd, nil
}

// readlink gives the path of what the descriptor refers to.
func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(procPath(fd), buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
