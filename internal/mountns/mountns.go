// Package mountns runs a program in a mount namespace of its own, so that no other process sees its mounts, and they
// disappear with the program, however it ends.
//
// Root needs only a new mount namespace. An ordinary user also needs a user namespace with the rights of root, which the
// kernel allows since 3.8 unless the distribution forbids it. It has only one user and one group, and tmpfs refuses some
// options there (noswap).
//
// Tests that mount, the demo and the benchmarks use it. The daemon does not: pods must see its mounts.
package mountns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// marker is the environment variable that the second run of a program gets.
const marker = "KEYVAULT_CSI_MOUNT_NAMESPACE"

// The values of marker.
const (
	ofRoot = "root"
	ofUser = "user"
)

// Inside reports whether this process, or one that started it, was started by [Again].
func Inside() bool { return os.Getenv(marker) != "" }

// InUserNamespace reports whether the process is in the user namespace of an ordinary user, with only one user and group,
// which are 0 there.
func InUserNamespace() bool { return os.Getenv(marker) == ofUser }

// ErrForbidden is the error of [Again], by errors.Is, if the machine does not allow the namespace.
var ErrForbidden = errors.New("this machine does not let an ordinary user make a user and mount namespace; run as root, " +
	"or allow it (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, kernel.unprivileged_userns_clone=1 on Debian)")

// Again runs this program with the same arguments and files in a new private mount namespace, passes SIGINT and SIGTERM on
// to it, and returns its exit code. The second run ends with this process.
func Again(ctx context.Context) (exitCode int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	kind, attr := ofRoot, &syscall.SysProcAttr{
		// Unshareflags, not Cloneflags: with it the runtime makes / private in the child, so that mounts do not
		// propagate back.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		kind = ofUser
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...) //nolint:gosec // G204: runs itself with its own arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"="+kind)
	cmd.SysProcAttr = attr
	return run(cmd)
}

func run(cmd *exec.Cmd) (int, error) {
	// The kernel sends Pdeathsig when the thread that forked ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) {
			return 0, fmt.Errorf("%w: %w", ErrForbidden, err)
		}
		return 0, fmt.Errorf("start again in a mount namespace: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // an error means that it has ended
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Main is for TestMain: it runs the tests of m in a mount namespace. If the machine forbids that to an ordinary user, it
// prints a message and passes, except in CI, where the machine must allow it.
func Main(m interface{ Run() int }) int {
	if Inside() {
		return m.Run()
	}
	code, err := Again(context.Background())
	switch {
	case errors.Is(err, ErrForbidden) && os.Getenv("CI") == "":
		fmt.Println("SKIP: all tests of this package:", err)
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
