package tmpfs

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// findMounted has the budget know the volumes of earlier processes: below the kubelet's root each tmpfs that holds a set and is
// mounted as this package does.
func (s *Store) findMounted() error {
	root := s.root // as the kernel has it, without links
	if resolved, err := filepath.EvalSymlinks(s.root); err == nil {
		root = resolved
	}
	root = strings.TrimSuffix(root, "/") + "/"
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return i.FSType != "tmpfs" || i.Root != "/" || !strings.HasPrefix(i.Options, "ro,nosuid,nodev,noexec") || !strings.HasPrefix(i.Mountpoint, root), false
	})
	for _, e := range entries {
		if current, err := os.Readlink(filepath.Join(e.Mountpoint, dataLink)); err != nil || !isSet(current) {
			continue
		}
		device := deviceOf(e)
		if s.budget.of(device).path != "" { // a subPath of a whole volume is mounted after it
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(e.Mountpoint, &st); err == nil {
			s.budget.hold(device, holding{path: e.Mountpoint, total: taken(&st)})
		}
	}
	return err
}
