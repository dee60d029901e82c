// Package mountns runs a program in a private mount namespace: no other process sees its mounts, and they end with it.
//
// Root needs only a mount namespace; an ordinary user also needs a user namespace (Linux 3.8, and some distributions forbid it), in which
// only the user's own user and group exist, as 0, and tmpfs refuses the option noswap.
//
// Tests, the demo and the benchmarks use it. The daemon does not: containers must see its mounts.
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

	"golang.org/x/sys/unix"
)

// The environment variable that Rerun sets, and its values.
const (
	variable = "KEYVAULT_CSI_MOUNT_NAMESPACE"
	ofRoot   = "root"
	ofUser   = "user"
)

// Inside reports whether this process, or one that started it, was started by [Rerun].
func Inside() bool { return os.Getenv(variable) != "" }

// InUserNamespace reports whether there is a user namespace as well.
func InUserNamespace() bool { return os.Getenv(variable) == ofUser }

// Noswap reports whether tmpfs has the option noswap here: not before Linux 6.3, and not in a user namespace.
func Noswap() bool {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fs) }()
	return unix.FsconfigSetFlag(fs, "noswap") == nil
}

// ErrForbidden is returned by [Rerun] when the machine does not allow the namespace.
var ErrForbidden = errors.New("this machine does not let an ordinary user make a user and mount namespace; run as root, " +
	"or allow it (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, kernel.unprivileged_userns_clone=1 on Debian)")

// Rerun runs this program with the same arguments and files in a private mount namespace, forwards SIGINT and SIGTERM, and returns its exit
// code. The second run is killed when this process ends.
func Rerun(ctx context.Context) (exitCode int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	kind, attr := ofRoot, &syscall.SysProcAttr{
		// Not Cloneflags: with Unshareflags the runtime makes / private, so that no mount is propagated to the outside.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		kind = ofUser
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...) //nolint:gosec // G204: this program with its own arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), variable+"="+kind)
	cmd.SysProcAttr = attr
	return run(cmd)
}

func run(cmd *exec.Cmd) (int, error) {
	// The kernel sends Pdeathsig when the thread that forked ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer func() {
		signal.Stop(signals)
		close(signals)
	}()
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) {
			return 0, fmt.Errorf("%w: %w", ErrForbidden, err)
		}
		return 0, fmt.Errorf("start again in a mount namespace: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // fails if it has just ended
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

// Main is for TestMain: it runs the tests of m in a private mount namespace. Where the machine forbids that, all tests are skipped, but not in
// CI.
func Main(m interface{ Run() int }) int {
	if Inside() {
		return m.Run()
	}
	code, err := Rerun(context.Background())
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
