package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/keyvault-csi/keyvault-csi/internal/cgroup"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

const (
	// tidyPause is how much longer than needed a value stays in memory, at most. To look takes 0.06 ms with 5,000 objects.
	tidyPause = 10 * time.Second
	// worthReturning is how many bytes must have been forgotten before the system gets memory back, which takes some
	// milliseconds of CPU. By itself the runtime keeps twice what it once needed, for minutes.
	worthReturning = 1 << 20
)

// tidy keeps the memory of the process to what can still be served to somebody, until ctx is done.
func tidy(ctx context.Context, fetcher *keyvault.Client) {
	ticker := time.NewTicker(tidyPause)
	defer ticker.Stop()
	again := false                       // what lies in a sync.Pool outlives one collection
	for forgotten := worthReturning; ; { // once for what the start took
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		forgotten += fetcher.Tidy()
		if worth := forgotten >= worthReturning; worth || again {
			debug.FreeOSMemory()
			forgotten, again = 0, worth
		}
	}
}

const (
	// heapLimit is the soft limit of the Go runtime: with the 17 MiB of the program itself it stays below 64 MiB. The tmpfs of the volumes is
	// charged to the same limit of the container, so a process that took that limit for its own would leave them nothing: it gets a
	// quarter at most.
	heapLimit, heapShare = 44 << 20, 4
	// Two volumes may be fetched at the same time that are as large as may be, and what a vault answers is held twice for a
	// moment: so much more for each byte that --max-volume-bytes has above its default, for which heapLimit is enough.
	heapForByte = 4
	// beside is what the process takes beside the memory of the Go runtime: page tables, sockets, stacks of threads.
	beside = 16 << 20
	// figureAge is how old the figures of the kernel may be while they are small.
	figureAge = time.Second
	// noLimit is more than any limit, and says nothing of what the process comes to take: GOMEMLIMIT=off.
	noLimit = 1 << 60
	// envMemoryLimit is a limit in bytes, beside those of the cgroups. The chart gives the container's own by it, for where the runtime
	// hides the cgroups.
	envMemoryLimit = "MEMORY_LIMIT"
)

// memory is that of this process and its volumes.
type memory struct {
	groups *cgroup.Memory
	given  int64 // by the environment; 0: none
	heap   int64 // what the Go runtime may have where there is enough
	fixed  bool  // the operator has set GOMEMLIMIT

	limit atomic.Int64 // that the runtime was told of last

	mu   sync.Mutex
	last tmpfs.Memory
	read time.Time // when last was
}

func newMemory(maxVolumeBytes int64, logger logr.Logger) (*memory, error) {
	m := &memory{fixed: os.Getenv("GOMEMLIMIT") != "", heap: heapLimit + heapForByte*max(0, maxVolumeBytes-tmpfs.DefaultMaxBytes)}
	if text := os.Getenv(envMemoryLimit); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("$%s: %q is not a number of bytes", envMemoryLimit, text)
		}
		m.given = n
	}
	groups, err := cgroup.Open("/")
	if err != nil {
		logger.Info("Only the limit of the environment counts, if there is one", "reason", err.Error())
	}
	m.groups = groups
	logger.Info("memory of the driver and its volumes", "limits", m.measure().Limits)
	return m, nil
}

// now says how it stands, or how it stood a second ago where less than half of it was taken: to read it takes a third of a cached publish, and
// the volumes that are mounted meanwhile are counted apart.
func (m *memory) now() tmpfs.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.read) > figureAge || slices.ContainsFunc(m.last.Limits, func(l tmpfs.Limit) bool { return 2*l.Used > l.Bytes }) {
		m.last, m.read = m.measure(), time.Now()
	}
	return m.last
}

// measure says how it stands. A limit that was changed since counts for the Go runtime as well.
func (m *memory) measure() tmpfs.Memory {
	var limits []tmpfs.Limit
	if m.groups != nil {
		for _, level := range m.groups.Levels() {
			limits = append(limits, tmpfs.Limit{Bytes: level.Limit, Used: level.Used})
		}
	}
	if m.given > 0 {
		limits = append(limits, tmpfs.Limit{Bytes: m.given})
	}
	heap := m.heap
	for _, l := range limits {
		heap = min(heap, l.Bytes/heapShare)
	}
	if m.fixed {
		if set := debug.SetMemoryLimit(-1); set < noLimit {
			heap = set
		}
	} else if m.limit.Swap(heap) != heap {
		debug.SetMemoryLimit(heap)
	}
	return tmpfs.Memory{Limits: limits, Process: heap + beside, Resident: resident()}
}

// resident is what this process takes for itself, without the pages of files that it maps, which the kernel can drop. 0 if that is not known.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0
	}
	all, errAll := strconv.ParseInt(fields[1], 10, 64)
	shared, errShared := strconv.ParseInt(fields[2], 10, 64)
	if errAll != nil || errShared != nil {
		return 0
	}
	return (all - shared) * int64(os.Getpagesize())
}
