package selinux_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// The contexts of processes: the driver, as a privileged container; a container with categories, and one with others.
const (
	driver         = "system_u:system_r:spc_t:s0"
	container      = "system_u:system_r:container_t:s0:c1,c2"
	otherContainer = "system_u:system_r:container_t:s0:c3,c4"
)

// enter makes the programs that this thread executes run in the context. The processes that the thread starts inherit that.
func enter(context string) error {
	return os.WriteFile("/proc/thread-self/attr/exec", []byte(context), 0)
}

// image is the root of a container: a tmpfs with the label that a runtime gives it, busybox, proc, and a folder for the volume.
func image(t *testing.T, context string) string {
	t.Helper()
	root := t.TempDir()
	label := strings.NewReplacer(":system_r:", ":object_r:", "container_t", "container_file_t").Replace(context)
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, `context="`+label+`"`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	for _, folder := range []string{"bin", "proc", "secrets"} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	return root
}

// bind does with the volume what a runtime does for readOnly: a bind mount, which is remounted with no flag but this one.
func bind(t *testing.T, volume, root string) {
	t.Helper()
	at := filepath.Join(root, "secrets")
	if err := unix.Mount(volume, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}

// run executes a shell command in the context and the root, and returns what it prints, with the exit code if it is not 0.
func run(t *testing.T, context, root, command string) string {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "/bin/busybox", "sh", "-c", command)
	cmd.Args[0] = "busybox"
	cmd.Dir, cmd.Env = "/", []string{"PATH=/bin"}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its context with it
		if err := enter(context); err != nil {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		t.Fatalf("start a container as %s: %v", context, err)
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		fmt.Fprintf(&output, "exit %d\n", exit.ExitCode())
	} else if err != nil {
		t.Fatal(err)
	}
	return output.String()
}

// denials reads the kernel's log from now on. The function that it returns waits for a line about a denied access that has all the words.
func denials(t *testing.T) func(words ...string) string {
	t.Helper()
	log, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(log) })
	if _, err := unix.Seek(log, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return func(words ...string) (found string) {
		record := make([]byte, 8<<10)
		suite.Eventually(t, fmt.Sprintf("the kernel's log has a denial with %q", words), func() bool {
			n, err := unix.Read(log, record)
			if err != nil { // EAGAIN at the end, EPIPE if records were overwritten
				return false
			}
			_, line, _ := strings.Cut(string(record[:n]), ";")
			line, _, _ = strings.Cut(line, "\n")
			for _, word := range append(words, "avc:  denied") {
				if !strings.Contains(line, word) {
					return false
				}
			}
			found = line
			return true
		})
		return found
	}
}
