package tmpfs

import (
	"errors"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// patience is for all changes of a volume. They take milliseconds.
	patience = time.Second
	// interruption is the last real-time signal, which nothing else uses. The handler of the Go runtime for it does nothing.
	interruption = unix.Signal(64)
)

var errDelegated = errors.New("a process has a delegation of a folder or a file of it (F_SETDELEG), for which every change has to wait; delete the pod")

// impatiently calls fn and, after patience, makes those of its system calls end with EINTR that wait for another process. From Linux 6.19 on
// the owner of a folder, also one that can only read, may take a delegation of it (F_SETDELEG). Then each change there waits, by default
// for 45 seconds, and without end if the owner takes the next delegation in time. No other wait of a change in a tmpfs ends by a signal.
func impatiently(fn func() error) error {
	notRestarted()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	process, thread := unix.Getpid(), unix.Gettid()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(patience)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				_ = unix.Tgkill(process, thread, interruption) // the thread is there
				ticker.Reset(10 * time.Millisecond)            // for the next call that waits, and for one that had not begun
			}
		}
	}()
	defer func() {
		close(done)
		<-ended
	}()
	return whyInterrupted(fn())
}

// whyInterrupted explains EINTR.
func whyInterrupted(err error) error {
	if errors.Is(err, unix.EINTR) {
		return errDelegated
	}
	return err
}

// notRestarted lets system calls end with EINTR for the signal: the handlers of the Go runtime have SA_RESTART.
var notRestarted = sync.OnceFunc(func() {
	const restart = 0x10000000 // SA_RESTART
	var action struct {        // of rt_sigaction(2)
		handler, flags, restorer uintptr
		mask                     uint64
	}
	const size = 8                     // of the mask
	pointer := unsafe.Pointer(&action) //nolint:gosec // G103: no package has this call
	if _, _, err := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruption), 0, uintptr(pointer), size, 0, 0); err == 0 {
		action.flags &^= restart
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruption), uintptr(pointer), 0, size, 0, 0)
	}
})
