package tmpfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// writer makes the files of one set.
//
// A folder is opened through os.Root, so no path leads out. In it, a file is made by its name alone, which cannot lead
// anywhere either, and not by os.Root: that would ask of every file whether it can be polled, five system calls that cost
// as much as the file.
type writer struct {
	set    *os.Root
	folder *os.File      // of the last file
	name   string        // of folder, within the set
	kept   []fs.FileMode // modes that the umask has left alone
}

func (w *writer) close() {
	if w.folder != nil {
		_ = w.folder.Close()
		w.folder = nil
	}
}

func (w *writer) write(file volume.File) error {
	if err := w.enter(path.Dir(file.Path)); err != nil {
		return err
	}
	name := path.Base(file.Path)
	fd, err := create(int(w.folder.Fd()), name, file.Mode)
	if err != nil {
		return &fs.PathError{Op: "openat", Path: name, Err: err}
	}
	err = errors.Join(w.fill(fd, file), unix.Close(fd))
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// enter opens the folder called name, unless the last file lay in it as well.
func (w *writer) enter(name string) (err error) {
	if w.folder != nil && w.name == name {
		return nil
	}
	w.close()
	w.folder, err = w.set.Open(name)
	w.name = name
	return err
}

func create(folder int, name string, mode fs.FileMode) (fd int, err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	for {
		fd, err = unix.Openat(folder, name, flags, uint32(mode.Perm()))
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func (w *writer) fill(fd int, file volume.File) error {
	for rest := file.Data.Reveal(); len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		rest = rest[max(n, 0):]
	}
	return w.chmod(fd, file.Mode)
}

// chmod makes the mode of a new file exact whatever the umask is. A mode of which the umask took nothing once is not asked for
// again.
func (w *writer) chmod(fd int, mode fs.FileMode) error {
	if slices.Contains(w.kept, mode) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if fs.FileMode(st.Mode).Perm() == mode {
		w.kept = append(w.kept, mode)
		return nil
	}
	return unix.Fchmod(fd, uint32(mode.Perm()))
}
