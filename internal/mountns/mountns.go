// Package mountns runs a program in a mount namespace of its own, so that what it mounts is seen by nobody else and
// is gone when it ends, whatever ended it.
//
// As root that takes a new mount namespace. An ordinary user first needs a user namespace in which he is root, which
// the kernel grants since 3.8 unless the distribution forbids it. In there only his own user and group exist, and
// some options of tmpfs (noswap) are refused.
//
// Tests that mount, the demo and the benchmarks use it. The daemon does not: its mounts are meant to be seen.
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

// marker is the environment variable by which the second run of a program knows that it is inside.
const marker = "KEYVAULT_CSI_MOUNT_NAMESPACE"

// The values of marker.
const (
	ofRoot = "root"
	ofUser = "user"
)

// Inside says whether this process, or one that started it, was started by [Again].
func Inside() bool { return os.Getenv(marker) != "" }

// InUserNamespace says whether the namespace is that of an ordinary user: only his own user and group, as 0, can be
// named there.
func InUserNamespace() bool { return os.Getenv(marker) == ofUser }

// ErrForbidden is in the chain of the error of [Again] when the machine does not allow the namespace.
var ErrForbidden = errors.New("this machine does not let an ordinary user make a user and mount namespace; run as root, " +
	"or allow it (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, kernel.unprivileged_userns_clone=1 on Debian)")

// Again runs this same program, with the same arguments and files, in a new private mount namespace, hands it the
// SIGINT and SIGTERM that arrive here, and gives its exit code. The second run dies with this process.
func Again(ctx context.Context) (exitCode int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	kind, attr := ofRoot, &syscall.SysProcAttr{
		// Unshareflags, not Cloneflags: the runtime then makes / private in the child, so that nothing that is
		// mounted in there travels back through shared propagation.
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
				_ = cmd.Process.Signal(s) // it may have ended in this moment
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

// Main is for TestMain: it runs the tests of m inside a mount namespace. Where the machine forbids that to an
// ordinary user it says so and passes, but not in CI, where a missing right is a fault of the set-up.
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
