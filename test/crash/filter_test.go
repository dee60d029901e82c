package crash_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls of a daemon are filtered from outside: a thread of the test installs a seccomp(2) filter for itself and starts the
// daemon, which inherits the filter.

// newMountCalls are those of Linux 5.2 to 5.12.
var newMountCalls = []uint32{
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
}

// The offsets in struct seccomp_data.
const (
	atNumber = 0
	atArg0   = 16
)

// forbid makes the calls fail with ENOSYS, in this thread and in the processes that it starts.
func forbid(calls []uint32) error {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atNumber}}
	for _, call := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	}
	_, err := seccomp(append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}), 0)
	return err
}

// seccomp installs a filter for this thread, and returns the listener if the flags ask for one.
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
