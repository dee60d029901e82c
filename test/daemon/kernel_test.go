package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// On a kernel before 5.12, in a sandbox, and under a seccomp profile that does not know the calls, the daemon ends at once with one line.
func TestKernelWithoutTheMountCalls(t *testing.T) {
	t.Parallel()
	daemon, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]uint32{
		"open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN, "fsconfig": unix.SYS_FSCONFIG,
		"fsmount": unix.SYS_FSMOUNT, "fspick": unix.SYS_FSPICK, "mount_setattr": unix.SYS_MOUNT_SETATTR, "openat2": unix.SYS_OPENAT2,
	} {
		for errno, text := range map[unix.Errno]string{
			unix.ENOSYS: "is not there",
			unix.EPERM:  "is forbidden, probably by a seccomp profile that does not know it",
		} {
			t.Run(name+" "+unix.ErrnoName(errno), func(t *testing.T) {
				t.Parallel()
				// With this endpoint it ends in any case.
				code, stderr := runWithout(t, call, errno, daemon, "--node-id=n", "--http-address=", "--endpoint=unix:///proc/csi.sock")
				want := fmt.Sprintf("keyvault-csi-driver: needs Linux 5.12 or newer: %s %s (kernel %s)\n", name, text, kernel(t))
				if code != 1 || stderr != want {
					t.Errorf("exit code %d, wrote\n %q, want 1 and\n %q", code, stderr, want)
				}
			})
		}
	}
}

// The demo repeats the daemon's line.
func TestDemoWithoutTheMountCalls(t *testing.T) {
	t.Parallel()
	if _, err := node.DaemonBinary(t.Context()); err != nil { // kvcsi looks for it beside itself
		t.Fatal(err)
	}
	kvcsi, err := node.Binary(t.Context(), "kvcsi")
	if err != nil {
		t.Fatal(err)
	}
	code, stderr := runWithout(t, unix.SYS_MOUNT_SETATTR, unix.ENOSYS, kvcsi, "demo")
	want := fmt.Sprintf("kvcsi demo: the driver has ended: keyvault-csi-driver: needs Linux 5.12 or newer: mount_setattr is not there (kernel %s)\n", kernel(t))
	if code != 1 || stderr != want {
		t.Errorf("exit code %d, wrote\n %q, want 1 and\n %q", code, stderr, want)
	}
}

// runWithout runs a program for which a system call fails.
func runWithout(t *testing.T, call uint32, errno unix.Errno, program string, args ...string) (exitCode int, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(suite.Context(t), program, args...)
	var wrote bytes.Buffer
	cmd.Stderr = &wrote
	err := node.OnThread(func() error {
		if err := forbid(call, errno); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err, exited := errors.AsType[*exec.ExitError](cmd.Wait()); exited {
		return err.ExitCode(), wrote.String()
	}
	return 0, wrote.String()
}

// forbid makes a system call fail for this thread and the processes that it starts.
func forbid(call uint32, errno unix.Errno) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// kernel is the release of the running kernel.
func kernel(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(name.Release[:])
}
