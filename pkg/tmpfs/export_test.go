package tmpfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// UseClassic makes a store mount with mount(2), as on a kernel that has nothing newer.
func UseClassic(s *Store) {
	s.mounter = &classic{swap: &swapOption{}, reason: errors.New("asked for by a test")}
}

// UsesClassic says whether New found that the newer calls cannot be used.
func UsesClassic(s *Store) bool {
	_, yes := s.mounter.(*classic)
	return yes
}

// Open opens the folder of a target. It gives the path that this has led to.
func (s *Store) Open(folder string) (path string, err error) {
	return opened(openBeneath(s.root, folder))
}

// Resolve does the same where openat2(2) is missing.
func (s *Store) Resolve(folder string) (path string, err error) {
	base, err := unix.Open(s.root, unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(base) }()
	return opened(openResolved(base, folder))
}

func opened(fd int, err error) (path string, _ error) {
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return readlink(fd)
}

// Place makes a target as a mount would, and gives the paths that the kernel has for the folder around it, which is empty
// if there is none, and for the target itself, which is empty if it could not be made or opened.
func (s *Store) Place(path string) (parent, folder string, err error) {
	at, err := s.find(path)
	if err != nil {
		return "", "", err
	}
	defer at.close()
	if at.parent < 0 {
		return "", "", nil
	}
	if parent, err = readlink(at.parent); err != nil {
		return "", "", err
	}
	err = at.with(func(fd int) (err error) {
		folder, err = readlink(fd)
		return err
	})
	return parent, folder, err
}
