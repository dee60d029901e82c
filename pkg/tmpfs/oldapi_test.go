package tmpfs_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Volumes work where the kernel does not know one of the newer system calls, or a seccomp filter forbids it.
func TestMissingSystemCalls(t *testing.T) {
	t.Parallel()
	calls := map[string]int{
		"open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN, "fsconfig": unix.SYS_FSCONFIG,
		"fsmount": unix.SYS_FSMOUNT, "fspick": unix.SYS_FSPICK, "mount_setattr": unix.SYS_MOUNT_SETATTR,
	}
	for name, call := range calls {
		for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
			t.Run(fmt.Sprintf("%s %v", name, unix.ErrnoName(errno)), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, tmpfs.Options{})
				runChild(t, "seccomp", f, f.target, fmt.Sprint(call), fmt.Sprint(int(errno)))
				checkNumbered(t, f.target)
				if got := mounts(t, f.target); len(got) != 1 || !strings.HasPrefix(got[0], "ro,nosuid,nodev,noexec") {
					t.Errorf("mounts %v", got)
				}
				// A driver that can use the newer calls, after an upgrade of the node, rotates such a volume.
				f.publish(t, content("a", "1"))
				if got := read(t, filepath.Join(f.target, "a")); got != "1" {
					t.Errorf("a = %q", got)
				}
			})
		}
	}
}

// childWithout publishes, and rotates, in a process whose system calls of that number fail.
func childWithout(call, errno uint32, root, target string) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return e
	}
	s, err := tmpfs.New(tmpfs.Options{KubeletRoot: root})
	if err != nil {
		return err
	}
	if !tmpfs.UsesOldAPI(s) {
		return fmt.Errorf("the missing call %d was not noticed", call)
	}
	for i := range 3 {
		if _, err := s.Publish(context.Background(), volume.Mount{Target: target}, numbered(i)); err != nil {
			return err
		}
	}
	return nil
}

// What a node does not support is logged once, not for each volume.
func TestFallbacksAreLoggedOnce(t *testing.T) {
	t.Parallel()
	eachAPI(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		var log bytes.Buffer
		ctx := klog.NewContext(t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log))))
		for i := range 3 {
			target := f.newTarget(t, fmt.Sprint("v", i))
			for round := range 3 {
				if _, err := f.Publish(ctx, volume.Mount{Target: target}, content("a", fmt.Sprint(round))); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := 0
		if tmpfs.UsesOldAPI(f.Store) {
			want++
		}
		if !mountns.Noswap() {
			want++
			if !strings.Contains(log.String(), "refuses the tmpfs option noswap") {
				t.Error("noswap was dropped without a log line")
			}
		}
		if got := strings.Count(log.String(), "\n"); got != want {
			t.Errorf("%d lines in the log, want %d:\n%s", got, want, &log)
		}
	})
}
