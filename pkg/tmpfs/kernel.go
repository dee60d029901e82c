package tmpfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckKernel returns an error if this process can never mount a volume, because a system call of Linux 5.2 to 5.12 is not there: the kernel
// is older, or a sandbox such as gVisor or a seccomp profile refuses the call. It does not report a missing CAP_SYS_ADMIN.
func CheckKernel() error {
	const none = -1 // no descriptor: no call has an effect
	fs, fsopen := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if fsopen == nil {
		_ = unix.Close(fs)
	}
	_, fsmount := unix.Fsmount(none, 0, 0)
	_, fspick := unix.Fspick(none, "", unix.FSPICK_EMPTY_PATH)
	_, openat2 := unix.Openat2(none, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	_, openTree := unix.OpenTree(none, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
	for _, call := range []struct {
		name string
		err  error
	}{
		{"fsopen", fsopen},
		{"fsconfig", unix.FsconfigCreate(none)},
		{"fsmount", fsmount},
		{"fspick", fspick},
		{"openat2", openat2},
		{"open_tree", openTree},
		{"move_mount", unix.MoveMount(none, "", none, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)},
		{"mount_setattr", unix.MountSetattr(none, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})},
	} {
		const text = "needs Linux 5.12 or newer: %s %s (kernel %s)"
		switch {
		case errors.Is(call.err, unix.ENOSYS):
			return fmt.Errorf(text, call.name, "is not there", release())
		case errors.Is(call.err, unix.EPERM) && mayMount():
			return fmt.Errorf(text, call.name, "is forbidden, probably by a seccomp profile that does not know it", release())
		}
	}
	return nil
}

// mayMount reports whether the process has CAP_SYS_ADMIN. Without it the kernel answers EPERM to most of the calls.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func release() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // fails only for an invalid pointer
	return unix.ByteSliceToString(name.Release[:])
}
