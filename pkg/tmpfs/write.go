package tmpfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Names in the root of a volume. No path of a content begins with "..".
const (
	dataLink = "..data"
	nextLink = "..data_tmp"

	// removePrefix begins the names of folders that are being removed.
	removePrefix = "..remove_"

	// setLayout names the folder of a set by its time in UTC, as the kubelet does.
	setLayout = "..2006_01_02_15_04_05.000000000"
)

// isSet reports whether name is the name of a set.
func isSet(name string) bool {
	_, err := time.Parse(setLayout, name)
	return err == nil
}

// setName returns the name of a new set. It sorts behind all existing ones, even if the clock was stepped back.
func setName(now time.Time, existing []string) string {
	name := now.UTC().Format(setLayout)
	for _, set := range existing {
		if t, err := time.Parse(setLayout, set); err == nil && name <= set {
			name = t.Add(time.Nanosecond).Format(setLayout)
		}
	}
	return name
}

// install writes the set into the folder called name and makes it the current one. Links for new names come before the rename of ..data,
// and those for old names are removed after it (cleanUp): so a reader finds a link for each name of the set that ..data names.
func (n *set) install(ctx context.Context, w *writableVolume, name string) error {
	if err := n.write(ctx, w, name); err != nil {
		return err
	}
	if err := w.setAttribute(name, n.digest[:]); err != nil {
		return err
	}
	// Nothing is written into the folder after this, or its mtime would change.
	if err := w.setTime(name, n.fetched); err != nil {
		return err
	}
	for _, top := range n.top {
		if err := w.symlink(path.Join(dataLink, top), top); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.symlink(name, nextLink); err != nil {
		return err
	}
	if err := unix.Renameat(w.fd, nextLink, w.fd, dataLink); err != nil {
		return fileError("renameat", dataLink, err)
	}
	_ = w.setAttribute(".", []byte{1}) // without it, the digests of this volume are not used
	return nil
}

// write makes the folders and files of the set. Modes are exact whatever the umask is.
func (n *set) write(ctx context.Context, w *writableVolume, name string) error {
	masked, err := w.makeFolder(name, n.folder)
	if err != nil {
		return err
	}
	n.unreadable = map[fileVersion]contentHash{}
	for _, e := range n.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case e.path == n.folder.path:
		case e.mode&unix.S_IFMT == unix.S_IFDIR:
			_, err = w.makeFolder(path.Join(name, e.path), e)
		default:
			// Where the umask took nothing from a folder, it takes no more from a file.
			err = n.writeFile(w.fd, name, e, masked || e.perm()&^n.folder.perm() != 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// beneath lets no symbolic link lead anywhere.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// openFolder returns a descriptor (O_PATH).
func (w *writableVolume) openFolder(name string) (fd int, err error) {
	fd, err = unix.Openat2(w.fd, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath})
	return fd, fileError("openat", name, err)
}

// makeFolder makes a folder. masked reports that the umask took something from its mode.
func (w *writableVolume) makeFolder(name string, e entry) (masked bool, err error) {
	parent, err := w.openFolder(path.Dir(name))
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(parent) }()
	if err := unix.Mkdirat(parent, path.Base(name), uint32(e.perm())); err != nil {
		return false, fileError("mkdirat", name, err)
	}
	return w.repairMode(name, e)
}

// repairMode sets the mode of a folder only where it differs, by the umask or another process: without CAP_FSETID, chmod clears the inherited
// set-group-id bit. The comparison after an update reports that.
func (w *writableVolume) repairMode(name string, e entry) (repaired bool, err error) {
	folder, err := w.openFolder(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(folder) }()
	var st unix.Stat_t
	if err := unix.Fstat(folder, &st); err != nil {
		return false, fileError("stat", name, err)
	}
	if st.Mode&0o1777 == uint32(e.perm()) {
		return false, nil
	}
	return true, fileError("chmod", name, unix.Chmod(procPath(folder), e.mode&0o7777))
}

// symlink makes a link in the root of the volume.
func (w *writableVolume) symlink(to, name string) error {
	return fileError("symlinkat", name, unix.Symlinkat(to, w.fd, name))
}

// setTime sets the times of a set.
func (w *writableVolume) setTime(set string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err == nil {
		err = unix.UtimesNanoAt(w.fd, set, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	return fileError("utimensat", set, err)
}

// writeFile makes a file of the set called name. If this process may not read it, its version is kept for later comparisons. A file
// takes three system calls; with package os it takes eight, because that tries to poll it.
func (n *set) writeFile(root int, name string, e entry, chmod bool) error {
	file, err := unix.Openat2(root, name+"/"+e.path, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC, Mode: uint64(e.perm()), Resolve: beneath,
	})
	if err != nil {
		return fileError("openat", e.path, err)
	}
	defer func() { _ = unix.Close(file) }()
	for data := e.data.Reveal(); len(data) > 0; {
		written, err := unix.Write(file, data)
		if err != nil {
			return fileError("write", e.path, err)
		}
		data = data[written:]
	}
	if chmod {
		if err := unix.Fchmod(file, uint32(e.perm())); err != nil {
			return fileError("chmod", e.path, err)
		}
	}
	if e.mode&0o400 == 0 {
		var st unix.Stat_t
		if err := unix.Fstat(file, &st); err != nil {
			return fileError("stat", e.path, err)
		}
		n.unreadable[versionOf(e.path, &st)] = e.hash
	}
	return nil
}

// fileError is an error of a file in the tmpfs, as package os has them (see explain), or nil.
func fileError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// attribute is an extended attribute that only a process with CAP_SYS_ADMIN in the initial user namespace can set, change or see (xattr(7)).
// On a set it holds the fingerprint, so that a new process can distinguish a change by a container from an old value. On the root of a
// volume it says that a set was installed with it: then a set without it is not the driver's.
const attribute = "trusted.keyvault-csi"

func (w *writableVolume) setAttribute(name string, value []byte) error {
	err := unix.Lsetxattr(procPath(w.fd)+"/"+name, attribute, value, 0)
	if err == nil || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) { // a user namespace, or no CONFIG_TMPFS_XATTR
		return nil
	}
	return fileError("setxattr", name, err)
}

// readDigest returns the fingerprint that is stored with a set: the zero fingerprint, which no set has, if only the root has the attribute.
func readDigest(root int, set string) (digest fingerprint, stored bool) {
	if n, err := unix.Lgetxattr(procPath(root)+"/"+set, attribute, digest[:]); err != nil || n != len(digest) {
		digest = fingerprint{}
	}
	var mark [1]byte
	n, err := unix.Lgetxattr(procPath(root)+"/.", attribute, mark[:])
	return digest, err == nil && n == len(mark)
}
