package tmpfs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Names in the root of a volume. No path of a content begins with "..", so none can meet them.
const (
	dataLink = "..data"
	nextLink = "..data_tmp"

	// folderLayout names the folder of a set by the time of its making, in UTC, as the kubelet does.
	folderLayout = "..2006_01_02_15_04_05.000000000"
)

// isSet says whether name is that of the folder of a set.
func isSet(name string) bool {
	_, err := time.Parse(folderLayout, name)
	return err == nil
}

// folderName is the name of a new set: later in the order of names than all that exist, also when the clock has been
// stepped back, so that this order is always that of publishing.
func folderName(now time.Time, existing []string) string {
	name := now.UTC().Format(folderLayout)
	if len(existing) == 0 {
		return name
	}
	if last := slices.Max(existing); name <= last {
		if t, err := time.Parse(folderLayout, last); err == nil {
			name = t.Add(time.Nanosecond).Format(folderLayout)
		}
	}
	return name
}

// setFolders gives the sets in the root of a volume, the oldest first.
func setFolders(root *os.Root) ([]string, error) {
	return names(root, ".", func(e fs.DirEntry) bool { return e.IsDir() && isSet(e.Name()) })
}

// topNames gives the names in the root of a set, sorted.
func topNames(root *os.Root, set string) ([]string, error) {
	return names(root, set, func(fs.DirEntry) bool { return true })
}

func names(root *os.Root, folder string, want func(fs.DirEntry) bool) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), folder)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if want(e) {
			found = append(found, e.Name())
		}
	}
	return found, nil
}

// install writes the set into the folder called name and makes it the current one. In this order no reader ever finds a
// link without a file for a name of the set that ..data shows: the links for new names come before the move of ..data,
// and those for names that are gone are left to sweep, after it.
func (n *set) install(ctx context.Context, root *os.Root, name string) error {
	if err := n.write(ctx, root, name); err != nil {
		return err
	}
	// Nothing is written into the folder after this, or its mtime would not be the fetch time.
	if err := stamp(root, name, n.fetched); err != nil {
		return err
	}
	for _, top := range n.top {
		if err := root.Symlink(path.Join(dataLink, top), top); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := root.Symlink(name, nextLink); err != nil {
		return err
	}
	return root.Rename(nextLink, dataLink)
}

// write makes the folders and files of the set. The modes are exact whatever the umask is.
func (n *set) write(ctx context.Context, root *os.Root, name string) error {
	if err := root.Mkdir(name, n.folderMode.Perm()); err != nil {
		return err
	}
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	// The usual umask takes nothing from a folder. Chmod only where it did: without CAP_FSETID it would drop the
	// set-group-id bit, which mkdir has inherited.
	masked := info.Mode().Perm() != n.folderMode.Perm()
	if masked {
		if err := root.Chmod(name, n.folderMode); err != nil {
			return err
		}
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	for _, folder := range n.folders {
		if err := dir.Mkdir(folder, n.folderMode.Perm()); err != nil {
			return err
		}
		if masked {
			if err := dir.Chmod(folder, n.folderMode); err != nil {
				return err
			}
		}
	}
	w := writer{set: dir}
	defer w.close()
	for _, f := range n.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.write(f); err != nil {
			return err
		}
	}
	return nil
}

// stamp sets the mtime of a set. A zero time becomes the oldest there is: os would leave the mtime as it is, and the
// set would seem fresh.
func stamp(root *os.Root, name string, fetched time.Time) error {
	if fetched.IsZero() {
		fetched = time.Unix(0, 0)
	}
	return root.Chtimes(name, fetched, fetched)
}

// equal says whether the set called name has the same folders and files, with the same bytes and modes.
func (n *set) equal(root *os.Root, name string) (bool, error) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = dir.Close() }()
	missing := make(map[string]func(fs.FileInfo) (bool, error), len(n.files)+len(n.folders)+1)
	isFolder := func(info fs.FileInfo) (bool, error) {
		return info.IsDir() && info.Mode().Perm() == n.folderMode.Perm(), nil
	}
	missing["."] = isFolder
	for _, folder := range n.folders {
		missing[folder] = isFolder
	}
	for _, f := range n.files {
		missing[f.Path] = func(info fs.FileInfo) (bool, error) {
			data := f.Data.Reveal()
			if info.Mode() != f.Mode || info.Size() != int64(len(data)) {
				return false, nil
			}
			have, err := readOwn(dir, f)
			return bytes.Equal(have, data), err
		}
	}
	same := true
	err = fs.WalkDir(dir.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		matches, wanted := missing[path]
		delete(missing, path)
		if same = wanted; same {
			same, err = matches(info)
		}
		if err == nil && !same {
			return fs.SkipAll
		}
		return err
	})
	return same && len(missing) == 0, err
}

// readOwn reads a file of a set. A mode may deny that to the owner as well, and only CAP_DAC_OVERRIDE, which the daemon does
// without, would not care: so the owner lets himself in for that long. If it is killed meanwhile the mode is another than it
// should be, and the next refresh writes the set anew.
func readOwn(set *os.Root, file volume.File) (data []byte, err error) {
	const readable = 0o400
	if file.Mode&readable == 0 {
		if err := set.Chmod(file.Path, file.Mode|readable); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, set.Chmod(file.Path, file.Mode)) }()
	}
	return set.ReadFile(file.Path)
}

// sweep removes from the root of a volume whatever is not of the current set, not a link for one of the names in top, and
// not a set that a subPath needs: replaced sets, and what a killed rotation left behind.
func sweep(root *os.Root, held subPaths, current string, top []string) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	sets, err := setFolders(root)
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		name := e.Name()
		if name == dataLink || name == current {
			continue
		}
		if _, linked := slices.BinarySearch(top, name); linked {
			continue
		}
		if slices.Contains(sets, name) {
			if keep, err := held.keeps(root, name, sets[0]); keep || err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		failed = errors.Join(failed, root.RemoveAll(name))
	}
	return failed
}
