package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/keyvault-csi/keyvault-csi/internal/cgroup"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

const (
	// tidyInterval is how much longer than needed a value stays in memory, at most. A look takes 0.06 ms with 5,000 objects.
	tidyInterval = 10 * time.Second
	// minReturned is how many bytes must be free before they are returned to the system, which takes some milliseconds of
	// CPU. The runtime itself keeps twice what it once needed, for minutes.
	minReturned = 1 << 20

	// heapLimit is the soft limit of the Go runtime: with the 16 MiB of the program it stays below 64 MiB. The volumes are
	// charged to the same limit of the container, so the runtime gets at most one part in heapShare of it.
	heapLimit, heapShare = 40 << 20, 4
	// heapPerByte is added for each byte that --max-volume-bytes is above its default: two of the largest volumes may be
	// fetched at the same time, and an answer of a vault is held twice for a moment.
	heapPerByte = 4
	// besideHeap is for page tables, sockets and the stacks of threads.
	besideHeap = 16 << 20
	// maxAge is how old the figures of the kernel may be while little memory is used.
	maxAge = time.Second
	// noLimit is more than any limit that is set: GOMEMLIMIT=off.
	noLimit = 1 << 60
	// envMemoryLimit is a limit in bytes beside those of the cgroups, which some runtimes hide. The chart sets it to the
	// container's.
	envMemoryLimit = "MEMORY_LIMIT"
)

// tidy drops what cannot be served any more, and returns its memory, until ctx ends.
func (d daemon) tidy(ctx context.Context) {
	ticker := time.NewTicker(tidyInterval)
	defer ticker.Stop()
	freed, again := minReturned, false // the start leaves memory to return
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		d.provider.Tidy()
		freed += d.fetcher.Tidy()
		if enough := freed >= minReturned; enough || again {
			debug.FreeOSMemory()
			freed, again = 0, enough // again: a sync.Pool keeps its content for one collection
		}
	}
}

// memory measures the memory of this process and its volumes.
type memory struct {
	groups *cgroup.Memory
	given  int64 // by the environment; 0: none
	heap   int64 // what the Go runtime may use where there is enough
	fixed  bool  // GOMEMLIMIT is set

	mu   sync.Mutex
	last tmpfs.Memory
	read time.Time // when last was measured
}

func newMemory(maxVolumeBytes int64, logger logr.Logger) (*memory, error) {
	m := &memory{fixed: os.Getenv("GOMEMLIMIT") != "", heap: heapLimit + heapPerByte*max(0, maxVolumeBytes-tmpfs.DefaultMaxBytes)}
	if text := os.Getenv(envMemoryLimit); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("$%s: %q is not a number of bytes", envMemoryLimit, text)
		}
		m.given = n
	}
	var err error
	if m.groups, err = cgroup.Open("/"); err != nil {
		logger.Info("Only the limit of the environment counts, if there is one", "reason", err.Error())
	}
	logger.Info("memory of the driver and its volumes", "limits", m.measure().Limits)
	return m, nil
}

// get returns figures of up to maxAge if less than half of each limit is used: a measurement takes a third of a cached
// publish, and the store counts the volumes that are mounted meanwhile.
func (m *memory) get() tmpfs.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.read) > maxAge || slices.ContainsFunc(m.last.Limits, func(l tmpfs.Limit) bool { return 2*l.Used > l.Bytes }) {
		m.last, m.read = m.measure(), time.Now()
	}
	return m.last
}

// measure reads the limits, which can change, and sets that of the Go runtime.
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
	if !m.fixed {
		debug.SetMemoryLimit(heap)
	} else if set := debug.SetMemoryLimit(-1); set < noLimit {
		heap = set
	}
	return tmpfs.Memory{Limits: limits, Process: heap + besideHeap, Resident: resident()}
}

// resident returns the memory of this process without the pages of files that it maps, which the kernel can drop; 0 if it is
// not known.
func resident() int64 {
	var size, all, shared int64
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &size, &all, &shared); err != nil {
		return 0
	}
	return (all - shared) * int64(os.Getpagesize())
}
