package tmpfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountPath is the path of the target in the mount table.
func (t *target) mountPath() string { return filepath.Join(t.parentPath, t.name) }

// mountEntry returns the entry of the topmost mount at the path, nil if there is none. It does not access the file system.
func (t *target) mountEntry() *mountinfo.Info {
	path := t.mountPath()
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != path, false })
	if err != nil || len(entries) == 0 {
		return nil
	}
	return entries[len(entries)-1]
}

// describe names a foreign mount for an error, with advice.
func (t *target) describe() string {
	entry := t.mountEntry()
	switch {
	case entry == nil:
		return "an unknown file system, which this driver has not mounted; unmount it"
	case t.corrupted != nil:
		return fmt.Sprintf("a file system of type %s from %q that no longer answers (%v), which this driver has not mounted; delete the pod or unmount it",
			entry.FSType, entry.Source, t.corrupted)
	default:
		return fmt.Sprintf("a file system of type %s from %q, which this driver has not mounted; unmount it", entry.FSType, entry.Source)
	}
}

// superblockWritable asks the mount table, because statfs(2) also reports a read-only mount. A file system that is not found there counts as
// writable: making it read-only again does no harm.
func (t *target) superblockWritable() bool {
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return deviceOf(i) != t.device, false })
	return err != nil || len(entries) == 0 || !slices.Contains(strings.Split(entries[0].VFSOptions, ","), "ro")
}

// subPathSets are the sets that containers have mounted by subPath. A rotation never reaches such a mount; if its set was removed, a folder
// would become empty for the container.
type subPathSets struct {
	names   map[string]bool
	unclear bool // there are others, probably the oldest set: the current one when the first container was started
}

// findSubPathSets reads what the kubelet has mounted, when a container was started, at
//
//	<pod folder>/volume-subpaths/<volume>/<container>/<index>
//
// for the volume at <pod folder>/volumes/<plugin>/<volume>/mount.
func (t *target) findSubPathSets() (used subPathSets) {
	folder := filepath.Join(t.parentPath, "../../../volume-subpaths", filepath.Base(t.parentPath))
	containers, err := os.ReadDir(folder)
	used.unclear = err != nil && !os.IsNotExist(err)
	if len(containers) == 0 {
		return used
	}
	below := mountinfo.PrefixFilter(folder)
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		skip, _ = below(i)
		return skip || deviceOf(i) != t.device, false
	})
	used.unclear = used.unclear || err != nil
	used.names = map[string]bool{}
	mounted := map[string]bool{}
	for _, e := range entries {
		set, _, _ := strings.Cut(strings.TrimPrefix(e.Root, "/"), "/")
		used.names[set], mounted[e.Mountpoint] = true, true
	}
	for _, container := range containers {
		indexes, err := os.ReadDir(filepath.Join(folder, container.Name()))
		used.unclear = used.unclear || err != nil
		for _, index := range indexes {
			used.unclear = used.unclear || !mounted[filepath.Join(folder, container.Name(), index.Name())]
		}
	}
	return used
}

// deviceOf returns the device number as stat(2) has it.
func deviceOf(i *mountinfo.Info) uint64 {
	return unix.Mkdev(uint32(i.Major), uint32(i.Minor)) //nolint:gosec // G115: of the kernel
}

// addMounted records the volumes of earlier processes: each tmpfs of this source below the kubelet's root that holds a set and is mounted as
// by this package.
func (b *budget) addMounted(root, source string) error {
	inRoot := mountinfo.PrefixFilter(root)
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		skip, _ = inRoot(i)
		return skip || i.FSType != "tmpfs" || i.Source != source || i.Root != "/" || !strings.HasPrefix(i.Options, "ro,nosuid,nodev,noexec"), false
	})
	known := map[uint64]bool{}
	for _, e := range entries {
		if known[deviceOf(e)] { // a subPath of a whole volume: its entry comes later
			continue
		}
		fd, err := unix.Open(e.Mountpoint, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		t := &target{parent: -1, parentPath: filepath.Dir(e.Mountpoint), name: filepath.Base(e.Mountpoint), fd: fd}
		if t.refresh() == nil && t.kind == complete {
			b.measure(t, 0)
			known[t.device] = true
		}
		t.close()
	}
	return err
}
