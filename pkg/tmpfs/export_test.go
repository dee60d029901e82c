package tmpfs

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// UseClassic makes a store mount with mount(2), as on a kernel that has nothing newer.
func UseClassic(s *Store) { s.mounter = mounter{&oldAPI{reason: errors.New("asked for by a test")}} }

// UsesClassic says whether New found that the newer calls cannot be used.
func UsesClassic(s *Store) bool {
	_, yes := s.mounter.mountAPI.(*oldAPI)
	return yes
}

// Open opens the folder of a target. It gives the path that this has led to.
func (s *Store) Open(folder string) (path string, err error) {
	fd, path, err := openBelow(s.root.real, filepath.Join(s.root.path, folder))
	if err == nil {
		err = unix.Close(fd)
	}
	return path, err
}

// Place makes a target as a mount would, and gives the paths that the kernel has for the folder around it, which is empty
// if there is none, and for the target itself, which is empty if it could not be made or opened.
func (s *Store) Place(path string) (parent, folder string, err error) {
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
