//go:build !linux

package suite

import "time"

// CPUTime is the time on the clock: only Linux tells that of one thread.
func CPUTime(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
