package node

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread runs fn on a thread that ends with it, so that what fn does to its thread affects only the processes that it starts.
func OnThread(fn func() error) error {
	done := make(chan error)
	go func() { done <- ownThread(fn) }()
	return <-done
}

// ownThread never uses the main thread, which cannot end.
func ownThread(fn func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		// The thread is not unlocked, so it ends with the goroutine. CLONE_FS: the umask is its own.
		return errors.Join(unix.Unshare(unix.CLONE_FS), fn())
	}
	defer runtime.UnlockOSThread()
	return OnThread(fn)
}
