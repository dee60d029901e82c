package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// MemoryGroup is a memory cgroup below the cgroup of this process, of version 1 or 2.
type MemoryGroup struct {
	Path                string // of the folder
	limitFile, usedFile string
}

// NewMemoryGroup makes a cgroup. The error is the reason why this process cannot. The caller removes the cgroup when its processes have
// ended.
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
		// In a container the path may be the host's, while only the root of the container's cgroup exists.
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

// Add moves a process into the group. Memory that it already uses stays charged to its previous group.
func (g MemoryGroup) Add(pid int) error { return g.write("cgroup.procs", int64(pid)) }

// Limit sets the memory limit of the group.
func (g MemoryGroup) Limit(bytes int64) error { return g.write(g.limitFile, bytes) }

// Used is the memory that is charged to the group, including tmpfs and kernel memory.
func (g MemoryGroup) Used() (int64, error) {
	text, err := os.ReadFile(filepath.Join(g.Path, g.usedFile))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// Remove removes the group. The error says which processes it has.
func (g MemoryGroup) Remove() error {
	err := os.Remove(g.Path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	pids, _ := os.ReadFile(filepath.Join(g.Path, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(pids)) {
		name, _ := os.ReadFile(filepath.Join("/proc", filepath.Base(pid), "comm"))
		err = fmt.Errorf("%w; it has process %s, %q", err, pid, strings.TrimSpace(string(name)))
	}
	return err
}

// RemoveWhenEmpty waits until the last process has left the group, which takes a moment after its end.
func (g MemoryGroup) RemoveWhenEmpty(t testing.TB) {
	t.Helper()
	why := ""
	suite.Eventually(t, "the cgroup is empty", func() bool {
		err := g.Remove()
		if err != nil && err.Error() != why {
			why = err.Error()
			t.Log(why)
		}
		return err == nil
	})
}

func (g MemoryGroup) write(file string, value int64) error {
	return os.WriteFile(filepath.Join(g.Path, file), []byte(strconv.FormatInt(value, 10)), 0o600)
}
