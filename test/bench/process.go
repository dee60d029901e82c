package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// usage is the resources of a process, from the kernel.
type usage struct {
	rss, peak int64 // KiB: VmRSS, VmHWM, without tmpfs
	threads   int64
	files     int           // open descriptors
	cpu       time.Duration // user and system
}

func usageOf(pid int) (u usage, err error) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	defer func() { _ = status.Close() }()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		number, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.rss = number
		case "VmHWM":
			u.peak = number
		case "Threads":
			u.threads = number
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.files = len(open)
	u.cpu, err = cpuOf(pid)
	return u, err
}

// cpuOf is the CPU time of all threads of a process, user and system.
func cpuOf(pid int) (time.Duration, error) {
	// The CPU clock of another process, see clock_getcpuclockid(3). /proc/PID/stat has a resolution of 10 ms.
	const cpuClock = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuClock, &t); err != nil { //nolint:gosec // G115: as the kernel wants it
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// settled waits for the end of the process's work, and returns the smallest memory of several samples.
func (b *bench) settled(ctx context.Context, pid int) (least usage, err error) {
	if err := pause(ctx, b.settle); err != nil {
		return least, err
	}
	for range 5 {
		u, err := usageOf(pid)
		if err != nil {
			return least, err
		}
		if least.rss == 0 || u.rss < least.rss {
			least = u
		}
		if err := pause(ctx, b.settle/5); err != nil {
			return least, err
		}
	}
	return least, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// machine prints the properties of the machine.
func (b *bench) machine(ctx context.Context) error {
	daemon, err := node.DaemonBinary(ctx)
	if err != nil {
		return err
	}
	version, err := exec.CommandContext(ctx, daemon, "--version").Output() //nolint:gosec // G204: the daemon under test
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", daemon, err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%s; Linux %s, %d CPUs, %s; load at the start %s\n",
		strings.TrimSpace(string(version)), strings.TrimSpace(string(kernel)), runtime.NumCPU(), runtime.Version(), load())
	return nil
}

// load is the load average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
