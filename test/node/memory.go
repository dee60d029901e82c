package node

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MemoryGroup is a memory cgroup below that of this process, of either hierarchy.
type MemoryGroup struct {
	Path                string // of the folder
	limitFile, usedFile string
}

// NewMemoryGroup makes a cgroup. The error says why this machine has none that may be divided. The caller removes the cgroup
// when its processes have ended.
func NewMemoryGroup() (g MemoryGroup, err error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return g, err
	}
	why := errors.New("no memory controller is mounted in /sys/fs/cgroup")
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		root, g := "/sys/fs/cgroup", MemoryGroup{limitFile: "memory.max", usedFile: "memory.current"}
		switch {
		case fields[1] == "memory":
			root, g = "/sys/fs/cgroup/memory", MemoryGroup{limitFile: "memory.limit_in_bytes", usedFile: "memory.usage_in_bytes"}
		case fields[0] != "0":
			continue
		}
		// In a container the path may be that of the host, and only the root of the container's own be there.
		for _, parent := range []string{filepath.Join(root, fields[2]), root} {
			if g.Path, err = os.MkdirTemp(parent, "keyvault-csi-test-"); err != nil {
				why = err
				continue
			}
			if _, err := os.Stat(filepath.Join(g.Path, g.limitFile)); err != nil {
				why = err
				_ = g.Remove()
				continue
			}
			return g, nil
		}
	}
	return MemoryGroup{}, why
}

// Add moves a process into the group. What it has used before stays charged to where it was.
func (g MemoryGroup) Add(pid int) error { return g.write("cgroup.procs", int64(pid)) }

// Limit sets how much all processes of the group may use together.
func (g MemoryGroup) Limit(bytes int64) error { return g.write(g.limitFile, bytes) }

// Used is what they use, tmpfs and memory of the kernel included.
func (g MemoryGroup) Used() (int64, error) {
	text, err := os.ReadFile(filepath.Join(g.Path, g.usedFile))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// Remove removes the group. It fails while a process that has ended is not gone yet.
func (g MemoryGroup) Remove() error { return os.Remove(g.Path) }

func (g MemoryGroup) write(file string, value int64) error {
	return os.WriteFile(filepath.Join(g.Path, file), []byte(strconv.FormatInt(value, 10)), 0o600)
}
