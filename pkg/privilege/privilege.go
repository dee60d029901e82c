// Package privilege takes from the daemon's process every right of root that it does not need.
//
// Kubernetes lets mounts of a container be seen by the kubelet only if that container is privileged, and for a privileged
// container the runtime ignores whatever capabilities, seccomp profile or no_new_privs a manifest asks for. So nobody but
// the process itself can give them up, and it does so before it has read a flag:
//
//   - Of the capabilities one is left, CAP_SYS_ADMIN, in the permitted, the effective and the bounding set; none in the
//     inheritable and the ambient set. Every mount takes it: fsopen(2), move_mount(2), umount(2), unshare(2). Everything else is
//     done without: the kubelet's folders belong to the user that the daemon runs as, files get their group from their
//     folder, and a tmpfs belongs to whoever made it. docs/security.md says what each of the others was not needed for.
//   - No program that this process might be made to start gets a right back (no_new_privs, prctl(2)): neither root's
//     nor that of a set-user-ID bit or of a file with capabilities.
//   - Its memory, in which values lie, goes nowhere: no core file (RLIMIT_CORE), none to a program that core_pattern names
//     either, for which that limit does not count, and no other process of the same user may trace it or read its
//     environment (both PR_SET_DUMPABLE).
//
// CAP_SYS_ADMIN remains a great right. What is gone with the others is the short way to root's rest: to load modules, trace
// processes, make device files, open raw sockets, read any file, change any owner, or become any user. Devices that are there belong to
// root and can be opened; an empty mount over /dev would not last against CAP_SYS_ADMIN.
//
// # Threads
//
// Linux keeps capabilities and no_new_privs for each thread, and the Go runtime has several before main begins.
// Package syscall can repeat a call on all threads, but not in a program with cgo. So one thread gives the rights up and
// executes the program anew, which leaves no other: all threads of the second run descend from it.
//
// In a user namespace the rights are those of the namespace, and the same is done with them. A process that has no
// capability has none to give up, and that is no error.
//
// The package knows about the process it runs in. It may not know what the process does; only the daemon's main imports it.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that stay, a bit for each.
const kept uint64 = 1 << unix.CAP_SYS_ADMIN

// usualMask is the umask of the daemon. A stricter one would take something from the folders of a volume, and only with
// CAP_FSETID can a folder be given its mode afterwards without losing its set-group-id bit.
const usualMask = 0o022

// Drop gives up what the process does not need. Where there was something to give up, it executes the program anew, with
// the same arguments, environment and process id, and does not return but in the second run. It has to come first in
// main: whatever else the first run did would be lost.
//
// An error is the kernel's refusal of something that it refuses to nobody; the daemon must not go on.
func Drop() error {
	// A parent may have asked for a signal when it ends (PR_SET_PDEATHSIG), which the kernel remembers for the main thread.
	// That is where main begins, and the thread that executes takes its place.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	unix.Umask(usualMask)
	done, err := dropped()
	if err == nil && !done {
		err = errors.Join(dropThread(), again())
	}
	if err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	// Last, because execve(2) sets it back.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// sets are the capability sets of a thread that capget(2) knows. The ambient set is part of the inheritable one.
type sets struct{ effective, permitted, inheritable uint64 }

// dropped says whether there is nothing left to give up. The bounding set needs no look: the first run has reduced it, or
// lacks what that takes, and then no_new_privs keeps it from ever being used.
func dropped() (bool, error) {
	noNewPrivs, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return false, err
	}
	have, err := get()
	return noNewPrivs == 1 && have.permitted&^kept == 0 && have.inheritable == 0, err
}

// dropThread reduces the sets of the calling thread.
func dropThread() error {
	have, err := get()
	if err != nil {
		return err
	}
	if have.effective&(1<<unix.CAP_SETPCAP) != 0 {
		if err := dropBounding(); err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	if err := set(sets{effective: have.permitted & kept, permitted: have.permitted & kept}); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// dropBounding takes one capability after the other until the kernel knows no more: a newer one may have more than
// this program has names for.
func dropBounding() error {
	for c := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err == nil && has == 1 && kept&(1<<c) == 0 {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
		if err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	return nil
}

// again executes the program anew. By its path and not by /proc/self/exe, which would become its name in ps(1).
func again() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ()) //nolint:gosec // G204: this program with its own arguments
}

func get() (sets, error) {
	var words [2]unix.CapUserData
	if err := unix.Capget(header(), &words[0]); err != nil {
		return sets{}, fmt.Errorf("capget: %w", err)
	}
	join := func(low, high uint32) uint64 { return uint64(high)<<32 | uint64(low) }
	return sets{
		effective:   join(words[0].Effective, words[1].Effective),
		permitted:   join(words[0].Permitted, words[1].Permitted),
		inheritable: join(words[0].Inheritable, words[1].Inheritable),
	}, nil
}

func set(s sets) error {
	var words [2]unix.CapUserData
	for i := range words {
		words[i] = unix.CapUserData{
			Effective:   uint32(s.effective >> (32 * i)),   //nolint:gosec // G115: one half
			Permitted:   uint32(s.permitted >> (32 * i)),   //nolint:gosec // G115: one half
			Inheritable: uint32(s.inheritable >> (32 * i)), //nolint:gosec // G115: one half
		}
	}
	return unix.Capset(header(), &words[0])
}

// header asks for the calling thread.
func header() *unix.CapUserHeader {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}
