package tmpfs

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// findMounted has the budget know the volumes of earlier processes: below the kubelet's root each tmpfs that holds a set and is
// mounted as this package does.
func (s *Store) findMounted() error {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	root := s.root // as the kernel has it, without links
	if resolved, err := filepath.EvalSymlinks(s.root); err == nil {
		root = resolved
	}
	root = strings.TrimSuffix(root, "/") + "/"
	for line := range strings.Lines(string(table)) {
		mount, super, _ := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if len(fields) < 6 || fields[3] != "/" || !strings.HasPrefix(super, "tmpfs ") || !strings.HasPrefix(fields[5], "ro,nosuid,nodev,noexec") {
			continue
		}
		path, device := unescape(fields[4]), parseDevice(fields[2])
		if !strings.HasPrefix(path, root) {
			continue
		}
		if current, err := os.Readlink(filepath.Join(path, dataLink)); err != nil || !isSet(current) {
			continue
		}
		if s.budget.of(device).path != "" { // a subPath of a whole volume is mounted after it
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err == nil {
			s.budget.hold(device, holding{path: path, total: taken(&st)})
		}
	}
	return nil
}

// parseDevice reads MAJOR:MINOR.
func parseDevice(text string) uint64 {
	major, minor, _ := strings.Cut(text, ":")
	high, _ := strconv.ParseUint(major, 10, 32)
	low, _ := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(high), uint32(low))
}

// unescape reads a path as the mount table writes it.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
