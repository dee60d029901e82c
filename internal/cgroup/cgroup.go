// Package cgroup reads the memory limits of this process and what is used of them: from the memory controller of cgroup v1 or v2, for
// the process's own cgroup and its parents, as far as they are visible and belong to its pod. It only reads.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Level is a cgroup with a memory limit that contains this process.
type Level struct {
	Limit int64 // bytes
	// Used is what counts against the limit, without the page cache of files, which the kernel can reclaim. For a cgroup that is not
	// visible it is what its visible children use.
	Used int64
}

// Memory is the memory controller as this process sees it.
type Memory struct {
	root   string
	mounts []*mountinfo.Info

	limits      []string // files
	usage       string   // file
	reclaimable []string // fields of memory.stat
	inherited   string   // field of memory.stat: the smallest limit of all parents; v1 only
}

// unlimited is above every limit in use: v1 writes the greatest number of pages instead of "max".
const unlimited = 1 << 60

// Open finds the controller: v1 if it has a hierarchy of its own, else v2. root is the folder of /proc and of the mounts: "/", or a
// test's. Without cgroups there are no levels.
func Open(root string) (*Memory, error) {
	// Above memory.high the kernel throttles the process for seconds at a time, so it counts as a limit.
	m := &Memory{
		root: root, limits: []string{"memory.max", "memory.high"}, usage: "memory.current", reclaimable: []string{"active_file", "inactive_file"},
	}
	_, v1, err := m.ownPath()
	if err != nil {
		return nil, err
	}
	if v1 {
		m.limits, m.usage = []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes"
		m.reclaimable, m.inherited = []string{"total_active_file", "total_inactive_file"}, "hierarchical_memory_limit"
	}
	table, err := os.Open(filepath.Join(root, "proc/self/mountinfo")) //nolint:gosec // G304: of /proc, or of a test
	if err != nil {
		return nil, fmt.Errorf("look for the mounts of cgroups: %w", err)
	}
	defer func() { _ = table.Close() }()
	m.mounts, err = mountinfo.GetMountsFromReader(table, func(i *mountinfo.Info) (skip, stop bool) {
		if v1 {
			return i.FSType != "cgroup" || !slices.Contains(strings.Split(i.VFSOptions, ","), "memory"), false
		}
		return i.FSType != "cgroup2", false
	})
	return m, err
}

// ownPath returns the path of this process's cgroup. It is read each time, because a process can be moved.
func (m *Memory) ownPath() (path string, v1 bool, err error) {
	text, err := os.ReadFile(filepath.Join(m.root, "proc/self/cgroup"))
	if err != nil {
		return "", false, fmt.Errorf("look for the cgroup of this process: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(fields) < 3:
		case slices.Contains(strings.Split(fields[1], ","), "memory"):
			return fields[2], true, nil
		case fields[0] == "0":
			path = fields[2]
		}
	}
	return path, false, nil
}

// Levels returns the cgroups that have a limit, the process's own first. What cannot be read has none.
func (m *Memory) Levels() []Level {
	path, _, err := m.ownPath()
	if err != nil {
		return nil
	}
	for _, mount := range m.mounts {
		if levels := m.levelsOf(mount, path); len(levels) > 0 {
			return levels
		}
	}
	return nil
}

// podCgroup matches the names that the kubelet gives to the cgroup of a pod, with and without systemd.
var podCgroup = regexp.MustCompile(`(^|-)pod[0-9a-f_-]{32,36}(\.slice)?$`)

// levelsOf reads from the process's cgroup up to the mounted one, or to the pod's if a limit was found by then. Parents of the pod are
// shared: the kubelet evicts other pods there before one that the node needs.
func (m *Memory) levelsOf(mount *mountinfo.Info, path string) (levels []Level) {
	top := filepath.Join(m.root, mount.Mountpoint)
	inside, err := filepath.Rel(mount.Root, path)
	if err != nil || inside == ".." || strings.HasPrefix(inside, "../") { // of another cgroup namespace
		inside = "."
	}
	smallest, inherited, used := int64(unlimited), int64(unlimited), int64(0)
	for folder := filepath.Join(top, inside); ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(folder); err != nil { // the path is the host's, and only the container's own cgroup is mounted
			folder = top
		}
		stat := readStat(folder)
		if usage := readNumber(filepath.Join(folder, m.usage), 0); usage > 0 {
			used = usage
			for _, field := range m.reclaimable {
				used -= stat[field]
			}
		}
		limit := int64(unlimited)
		for _, name := range m.limits {
			limit = min(limit, readNumber(filepath.Join(folder, name), unlimited))
		}
		if limit < unlimited {
			levels = append(levels, Level{Limit: limit, Used: max(used, 0)})
			smallest = min(smallest, limit)
		}
		if parents, ok := stat[m.inherited]; ok {
			inherited = min(inherited, parents)
		}
		if folder == top || len(levels) > 0 && podCgroup.MatchString(filepath.Base(folder)) {
			break
		}
	}
	if inherited < smallest { // of a parent that is not mounted
		levels = append(levels, Level{Limit: inherited, Used: max(used, 0)})
	}
	return levels
}

// readStat returns the fields of memory.stat.
func readStat(folder string) map[string]int64 {
	text, _ := os.ReadFile(filepath.Join(folder, "memory.stat")) //nolint:gosec // G304: below a mount of cgroups
	stat := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			stat[name] = n
		}
	}
	return stat
}

// readNumber reads a file that holds one number; otherwise is what "max" means, and a file that is missing.
func readNumber(file string, otherwise int64) int64 {
	text, _ := os.ReadFile(file) //nolint:gosec // G304: below a mount of cgroups
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}
