package tmpfs

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Impatiently ends system calls of fn that wait for another process.
func Impatiently(fn func() error) error { return impatiently(fn) }

// OpenBelow opens a folder below the kubelet's root, and returns where that has led.
func (s *Store) OpenBelow(folder string) (path string, err error) {
	fd, path, err := openBelow(s.root.real, filepath.Join(s.root.path, folder))
	if err == nil {
		err = unix.Close(fd)
	}
	return path, err
}

// MakeTarget makes the folder of a target as a mount would. It returns the kernel's paths of the parent, empty if there is none, and of the
// folder, empty if it could not be made or opened.
func (s *Store) MakeTarget(path string) (parent, folder string, err error) {
	t, err := find(s.root, path)
	if err != nil {
		return "", "", err
	}
	defer t.close()
	if t.parent < 0 {
		return "", "", nil
	}
	if parent, err = os.Readlink(procPath(t.parent)); err != nil {
		return "", "", err
	}
	err = t.withFolder(func(fd int) (err error) {
		folder, err = os.Readlink(procPath(fd))
		return err
	})
	return parent, folder, err
}
