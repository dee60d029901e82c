package tmpfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"
)

// Names in the root of a volume. No path of a content begins with "..", so none can meet them.
const (
	dataLink = "..data"
	nextLink = "..data_tmp"

	// removePrefix begins the names of folders that are being removed.
	removePrefix = "..remove_"

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
	if err := n.mark(root, name); err != nil {
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

// stamp sets the mtime of a set.
func stamp(root *os.Root, name string, fetched time.Time) error {
	return root.Chtimes(name, fetched, fetched)
}
