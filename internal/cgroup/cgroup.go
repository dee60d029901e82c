// Package cgroup reads how much memory the kernel lets this process have, and how much of it is used: from the memory controller of
// cgroup v1 or v2, for the process's own cgroup and for those above it as far as they can be seen and are its pod's. It only reads.
package cgroup

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Level is one cgroup with a limit of memory that holds this process.
type Level struct {
	Limit int64 // bytes
	// Used is what counts against the limit and stays: not the page cache of files, which the kernel drops when it needs the memory. Of a
	// cgroup that cannot be seen it is what is known to be used below it.
	Used int64
}

// Memory is the memory controller as this process sees it.
type Memory struct {
	root   string
	names  names
	mounts []mount
}

// mount is a place where the controller's hierarchy, or a part of it, is mounted.
type mount struct {
	point string // where
	top   string // which cgroup of the hierarchy stands there
}

// names are those of the controller's files.
type names struct {
	limits            []string
	used              string
	reclaimable       []string // fields of memory.stat
	hierarchicalLimit string   // one more; empty if there is none
}

func namesOfV1() names {
	return names{
		limits: []string{"memory.limit_in_bytes"}, used: "memory.usage_in_bytes",
		reclaimable: []string{"total_active_file", "total_inactive_file"}, hierarchicalLimit: "hierarchical_memory_limit",
	}
}

// namesOfV2 takes memory.high for a limit as well: above it the kernel holds the process up for seconds at a time, as long as nothing can
// be reclaimed.
func namesOfV2() names {
	return names{
		limits: []string{"memory.max", "memory.high"}, used: "memory.current",
		reclaimable: []string{"active_file", "inactive_file"},
	}
}

// unlimited is above every limit that somebody has set: v1 writes the greatest number of pages instead of "max".
const unlimited = 1 << 60

// Open finds the controller, in v1 where it has a hierarchy of its own, else in v2. root is where /proc and the mounts are looked for:
// "/", or a folder of a test. Without cgroups there are no levels.
func Open(root string) (*Memory, error) {
	m := &Memory{root: root, names: namesOfV2()}
	_, isV1, err := m.own()
	if err != nil {
		return nil, err
	}
	if isV1 {
		m.names = namesOfV1()
	}
	table, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo")) //nolint:gosec // G304: of /proc, or of a test
	if err != nil {
		return nil, fmt.Errorf("look for the mounts of cgroups: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		place, super, _ := strings.Cut(line, " - ")
		fields, of := strings.Fields(place), strings.Fields(super)
		if len(fields) < 5 || len(of) < 3 {
			continue
		}
		controllers := strings.Split(of[2], ",")
		if isV1 && of[0] == "cgroup" && slices.Contains(controllers, "memory") || !isV1 && of[0] == "cgroup2" {
			m.mounts = append(m.mounts, mount{point: unescape(fields[4]), top: unescape(fields[3])})
		}
	}
	return m, nil
}

// own gives the path of this process's cgroup. It is asked for anew each time, because a process can be moved.
func (m *Memory) own() (path string, isV1 bool, err error) {
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

// Levels gives the cgroups that have a limit, the process's own first. What cannot be read has none.
func (m *Memory) Levels() []Level {
	path, _, err := m.own()
	if err != nil {
		return nil
	}
	for _, at := range m.mounts {
		if levels := m.below(at, path); len(levels) > 0 {
			return levels
		}
	}
	return nil
}

// ofAPod is how the kubelet names the cgroup of a pod, with and without systemd.
var ofAPod = regexp.MustCompile(`(^|-)pod[0-9a-f_-]{32,36}(\.slice)?$`)

// below reads from the process's cgroup up to the one that is mounted, or to that of the pod if a limit has been found by then. What lies
// above a pod is used by others, whom the kubelet evicts, and the kernel kills, before a pod that the node needs.
func (m *Memory) below(at mount, path string) (levels []Level) {
	top := filepath.Join(m.root, at.point)
	inherited, used := int64(unlimited), int64(0)
	for folder := filepath.Join(top, at.inside(path)); ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(folder); err != nil { // the path is the host's, and only the container's own cgroup is mounted
			folder = top
		}
		stat := m.stat(folder)
		if current := number(filepath.Join(folder, m.names.used), 0); current > 0 {
			used = current
			for _, field := range m.names.reclaimable {
				used -= stat[field]
			}
		}
		if limit := m.limit(folder); limit < unlimited {
			levels = append(levels, Level{Limit: limit, Used: max(used, 0)})
		}
		if above, ok := stat[m.names.hierarchicalLimit]; ok {
			inherited = min(inherited, above)
		}
		if folder == top || len(levels) > 0 && ofAPod.MatchString(filepath.Base(folder)) {
			break
		}
	}
	smallest := int64(unlimited)
	if len(levels) > 0 {
		smallest = slices.MinFunc(levels, func(a, b Level) int { return cmp.Compare(a.Limit, b.Limit) }).Limit
	}
	if inherited < smallest { // from a cgroup above those that are mounted
		levels = append(levels, Level{Limit: inherited, Used: max(used, 0)})
	}
	return levels
}

// inside gives the path of a cgroup relative to the one that is mounted. A path that does not lie there is of another cgroup namespace: then
// what is mounted is the best that can be seen.
func (a mount) inside(path string) string {
	rel, err := filepath.Rel(a.top, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "."
	}
	return rel
}

func (m *Memory) limit(folder string) int64 {
	limit := int64(unlimited)
	for _, name := range m.names.limits {
		limit = min(limit, number(filepath.Join(folder, name), unlimited))
	}
	return limit
}

// stat gives the numbers of memory.stat.
func (m *Memory) stat(folder string) map[string]int64 {
	text, err := os.ReadFile(filepath.Join(folder, "memory.stat")) //nolint:gosec // G304: below a mount of cgroups
	if err != nil {
		return nil
	}
	stat := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				stat[name] = n
			}
		}
	}
	return stat
}

// number reads a file that holds one; otherwise is what "max" means, and a file that is not there.
func number(file string, otherwise int64) int64 {
	text, err := os.ReadFile(file) //nolint:gosec // G304: below a mount of cgroups
	if err != nil {
		return otherwise
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// unescape reads a path as the mount table writes it.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
