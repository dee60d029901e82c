package crash_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// tracer intercepts every system call of a daemon that changes mounts or files, before the kernel makes it, and can hold it or kill
// the daemon there (seccomp_unotify(2)). Random instants hit mostly long calls; the tracer hits all.
type tracer struct {
	listener int
	ended    chan struct{}

	mu   sync.Mutex
	hook func(call string) (goOn bool) // nil lets every call continue
}

// tracedSize is the size of the files. Only writes of this size are traced, which excludes writes to sockets.
const tracedSize = 1237

var tracedCalls = map[uint32]string{
	unix.SYS_FSOPEN: "fsopen", unix.SYS_FSCONFIG: "fsconfig", unix.SYS_FSMOUNT: "fsmount", unix.SYS_FSPICK: "fspick",
	unix.SYS_OPEN_TREE: "open_tree", unix.SYS_MOVE_MOUNT: "move_mount", unix.SYS_MOUNT_SETATTR: "mount_setattr",
	unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount2",
	unix.SYS_MKDIRAT: "mkdirat", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2",
	unix.SYS_UNLINKAT: "unlinkat", unix.SYS_UTIMENSAT: "utimensat", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat",
	unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_LINKAT: "linkat",
	unix.SYS_OPENAT2: "openat2",
	unix.SYS_WRITE:   "write", // of tracedSize bytes
}

// The offsets in struct seccomp_data.
const (
	atNumber = 0
	atArg0   = 16
)

// trace reports the calls of this thread, and of the processes that it starts, to a new tracer.
func trace() (*tracer, error) {
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	notify := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF}
	third := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atArg0 + 2*8} // its lower half, on little-endian machines
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atNumber}}
	for call := range tracedCalls {
		switch call {
		case unix.SYS_WRITE:
			filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 4}, third,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: tracedSize, Jf: 1}, notify, allow)
		default:
			filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1}, notify)
		}
	}
	filter = append(filter, allow)
	// With the second flag, signals of the Go runtime to its own threads do not restart a call.
	fd, err := seccomp(filter, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if err != nil {
		return nil, fmt.Errorf("seccomp with a listener (Linux 5.19): %w", err)
	}
	tr := &tracer{listener: fd, ended: make(chan struct{})}
	go tr.listen()
	return tr, nil
}

// seccomp installs a filter for this thread and the processes that it starts, and returns the listener.
func seccomp(filter []unix.SockFilter, flags uintptr) (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// restartTraced starts the daemon again, with a tracer.
func restartTraced(t *testing.T, n *node.Node) (tr *tracer) {
	t.Helper()
	n.Restrict = func() (err error) {
		tr, err = trace()
		return err
	}
	restart(t, n)
	return tr
}

// notification and verdict are struct seccomp_notif and struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	call       int32
	arch       uint32
	at         uint64
	args       [6]uint64
}

type verdict struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// listen ends when the last process under the filter has ended.
func (tr *tracer) listen() {
	defer close(tr.ended)
	defer unix.Close(tr.listener)
	for {
		events := []unix.PollFd{{Fd: int32(tr.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(events, -1); errors.Is(err, unix.EINTR) {
			continue
		}
		if events[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(tr.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // ENOENT: killed meanwhile
		}
		if !tr.report(tracedCalls[uint32(n.call)]) {
			continue // without an answer, because the daemon was killed
		}
		v := verdict{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(tr.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&v)))
	}
}

func (tr *tracer) report(call string) (goOn bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.hook == nil || tr.hook(call)
}

// at runs fn, and calls stop at the step-th traced call, which reports whether the call may continue. It returns the calls in order,
// fewer than step if fn ended before.
func (tr *tracer) at(step int, stop func() (goOn bool), fn func()) (seen []string) {
	tr.mu.Lock()
	tr.hook = func(call string) bool {
		seen = append(seen, call)
		return len(seen) != step || stop()
	}
	tr.mu.Unlock()
	fn()
	tr.mu.Lock()
	tr.hook = nil
	tr.mu.Unlock()
	return seen
}
