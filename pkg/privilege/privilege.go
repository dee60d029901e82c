// Package privilege drops every right of root that the daemon does not need.
//
// The kubelet sees the mounts of a container only if that container is privileged, and then the runtime ignores the
// capabilities, the seccomp profile and the no_new_privs of the manifest. So the process itself drops its rights, before it
// reads a flag:
//
//   - Capabilities: only CAP_SYS_ADMIN stays, in the permitted, effective and bounding set, because every mount needs it: fsopen(2),
//     move_mount(2), umount(2). docs/security.md says why none of the others is needed.
//   - no_new_privs (prctl(2)): no program that this process starts gets a right back, by root, by a set-user-ID bit or by capabilities of its
//     file.
//   - Memory: no core file (RLIMIT_CORE). PR_SET_DUMPABLE keeps it from the program of core_pattern, for which that limit does not count, and
//     keeps other processes of the same user from tracing it and from reading its environment.
//
// CAP_SYS_ADMIN remains a great right. Without the others the process cannot load modules, trace processes, make device
// files, open raw sockets, read any file, change any owner, or become any user. It can still open the devices of root that
// exist; an empty mount over /dev would not last against CAP_SYS_ADMIN.
//
// Linux keeps capabilities and no_new_privs for each thread, and the Go runtime has several before main begins. Package
// syscall repeats a call on all threads only in a program without cgo. So one thread drops the rights and executes the
// program again: all threads of the second run descend from it. In a user namespace the rights are those of the namespace.
//
// The package must not know what the process does. Only the main of the daemon imports it.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept is the capability that stays. Like CAP_SETPCAP it is in the first of the two words of a capability set.
const kept = unix.CAP_SYS_ADMIN

// usualMask is the umask of the daemon. A stricter one would reduce the modes of a volume's folders, and without CAP_FSETID
// a chmod clears the set-group-id bit of a folder.
const usualMask = 0o022

// Drop drops what the process does not need. If there was something to drop, it executes the program again, with the same
// arguments, environment and process id, and returns only in the second run. It must come first in main. After an error,
// which is a refusal of the kernel, the daemon must not go on.
func Drop() error {
	// The kernel keeps PR_SET_PDEATHSIG for the main thread, on which main begins and which execve(2) keeps.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	unix.Umask(usualMask)
	if err := dropAll(); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	// Last, because execve(2) resets it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// capabilities are the sets of a thread, in two words. The inheritable set includes the ambient one.
type capabilities [2]unix.CapUserData

// dropAll returns if there is nothing to drop. The bounding set needs no check: the first run has reduced it, or lacks
// CAP_SETPCAP, and then no_new_privs prevents its use.
func dropAll() error {
	noNewPrivs, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	var have capabilities
	if err := unix.Capget(header(), &have[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	left := have[0].Permitted&^(1<<kept) | have[0].Inheritable | have[1].Permitted | have[1].Inheritable
	if noNewPrivs == 1 && left == 0 {
		return nil
	}
	if err := dropThread(have); err != nil {
		return err
	}
	// Not /proc/self/exe, which would become the name of the process in ps(1).
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ()) //nolint:gosec // G204: this program with its own arguments
}

// dropThread reduces the sets of the calling thread.
func dropThread(have capabilities) error {
	if have[0].Effective&(1<<unix.CAP_SETPCAP) != 0 {
		if err := dropBounding(); err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	stays := have[0].Permitted & (1 << kept)
	want := capabilities{{Effective: stays, Permitted: stays}}
	if err := unix.Capset(header(), &want[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// dropBounding drops capabilities until the kernel refuses the number: it may have more of them than package unix.
func dropBounding() error {
	for c := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err == nil && has == 1 && c != kept {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
		if err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	return nil
}

// header asks for the calling thread.
func header() *unix.CapUserHeader {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}
