package suite

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is the processor time that f takes in its own thread. Unlike the time on the clock it does not depend on what else the machine
// does, so tests can bound a computation by it. A computation that never ends is left to the time limit of go test.
func CPUTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	f()
	return threadTime() - began
}

func threadTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
