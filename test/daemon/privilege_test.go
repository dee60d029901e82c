package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// onlyAdmin is the set of CAP_SYS_ADMIN in the format of /proc.
const onlyAdmin, noCapability = "0000000000200000", "0000000000000000"

// hardened is the expected /proc/PID/status of each thread of the daemon; set is its capabilities.
func hardened(set string) map[string]string {
	return map[string]string{
		"CapInh": noCapability, "CapPrm": set, "CapEff": set, "CapBnd": set, "CapAmb": noCapability, "NoNewPrivs": "1", "Umask": "0022",
	}
}

// Every thread has one capability left, and its children cannot get more.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Restrict: func() error {
		unix.Umask(0o077) // only of this thread, see Restrict
		return nil
	}})
	useEverything(t, n)
	for thread, got := range threads(t, n.PID()) {
		if want := hardened(onlyAdmin); !maps.Equal(got, want) {
			t.Errorf("thread %s has\n%v, want\n%v", thread, got, want)
		}
	}
	// The positive control: the test's process has more.
	if got := threads(t, os.Getpid()); len(got) == 0 || anyOf(got)["CapEff"] == onlyAdmin {
		t.Errorf("the test itself has no more: %v", got)
	}
	_, page, err := n.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"} {
		if !strings.Contains(page, "\n"+name+" ") {
			t.Errorf("/metrics has lost %s", name)
		}
	}
}

// Without CAP_SETPCAP the bounding set cannot be reduced, but its capabilities cannot be acquired.
func TestPrivilegesWithoutTheRightToDropThem(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Restrict: func() error { return dropBounding(func(c uintptr) bool { return c == unix.CAP_SETPCAP }) }})
	useEverything(t, n)
	for thread, got := range threads(t, n.PID()) {
		want := hardened(onlyAdmin)
		if want["CapBnd"] = got["CapBnd"]; want["CapBnd"] == onlyAdmin {
			t.Error("the bounding set was reduced without the right to do so")
		}
		if !maps.Equal(got, want) {
			t.Errorf("thread %s has\n%v, want\n%v", thread, got, want)
		}
	}
}

// A daemon without the capability to mount runs, and each call fails with the reason.
func TestWithoutACapability(t *testing.T) {
	t.Parallel()
	for name, restrict := range map[string]func() error{
		"all but CAP_SYS_ADMIN are there": func() error { return dropBounding(func(c uintptr) bool { return c == unix.CAP_SYS_ADMIN }) },
		"none is there":                   withoutCapabilities,
		"the bounding set alone is full":  func() error { return unix.Prctl(unix.PR_SET_SECUREBITS, secbitNoRoot, 0, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t, node.Options{Restrict: restrict})
			for thread, got := range threads(t, n.PID()) {
				want := hardened(noCapability)
				if strings.Contains(name, "full") {
					want["CapBnd"] = got["CapBnd"] // it cannot be reduced; no_new_privs has the same effect
				}
				if !maps.Equal(got, want) {
					t.Errorf("thread %s has\n%v, want\n%v", thread, got, want)
				}
			}
			n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
			v := workload("secrets", "db-password")
			refused(t, n, v, codes.Internal, fmt.Sprintf("mount a volume at %q: fsopen: operation not permitted", n.Target(v)))
			if code, body, err := n.Get(t.Context(), "/healthz"); code != 200 {
				t.Errorf("/healthz: %d %s %v", code, body, err)
			}
			// A volume of an earlier daemon can be neither refreshed nor unmounted.
			if err := os.MkdirAll(n.Target(v), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", n.Target(v), "tmpfs", 0, "size=4096"); err != nil {
				t.Fatal(err)
			}
			if err := n.Unpublish(t.Context(), v); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "operation not permitted") {
				t.Errorf("unpublish: %v", err)
			}
		})
	}
}

// The one capability is enough for everything that the daemon does, with any umask.
func TestOneCapabilityIsEnough(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Restrict: func() error {
		unix.Umask(0o077)
		return dropBounding(func(c uintptr) bool { return c != unix.CAP_SYS_ADMIN })
	}})
	useEverything(t, n)
}

// useEverything makes the daemon do everything that needs privileges: mount with and without a group, write all modes, compare and rotate,
// keep a set that a subPath uses, read its files, unmount.
func useEverything(t *testing.T, n *node.Node) {
	t.Helper()
	n.Vault.SetSecret("a", "first", devcloud.SecretOptions{})
	objects := "[{secret: a}, {secret: a, path: folder/none, mode: \"0040\"}, {secret: a, path: w, mode: \"0222\"}, " +
		"{secret: a, path: all, mode: \"0777\"}]"
	plain, grouped := workload("objects", objects), workload("objects", objects)
	plain.Name, grouped.Name, grouped.FSGroup = "plain", "grouped", "0"
	if os.Getenv("KEYVAULT_CSI_MOUNT_NAMESPACE") == "root" {
		grouped.FSGroup = "4321"
	}
	want := map[string][]string{
		"plain":   {"a rw-r--r-- ", "all rwxrwxrwx ", "folder/ rwxr-xr-x", "folder/none ---r----- ", "w -w--w--w- "},
		"grouped": {"a rw-r----- ", "all rwxrwxrwx ", "folder/ rwxr-x---+setgid", "folder/none ---r----- ", "w -w--w--w- "},
	}
	volumes := []kubelet.Volume{plain, grouped}
	check := func(value string) {
		t.Helper()
		checkGroup(t, n.Target(grouped), grouped.FSGroup)
		for _, v := range volumes {
			var lines []string
			for _, line := range want[v.Name] {
				if strings.HasSuffix(line, " ") {
					line += value
				}
				lines = append(lines, line)
			}
			if got := tree(t, n.Target(v)); !slices.Equal(got, lines) {
				t.Errorf("%s holds\n%q, want\n%q", v.Name, got, lines)
			}
		}
	}
	for _, v := range volumes {
		n.MustPublish(t, v)
	}
	check("first")
	bind := filepath.Join(n.PodDir(plain), "volume-subpaths", plain.Name, "app", "0")
	if err := errors.Join(os.MkdirAll(filepath.Dir(bind), 0o750), os.WriteFile(bind, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(filepath.Join(n.Target(plain), "a"), bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	before := append(sets(t, n.Target(plain)), sets(t, n.Target(grouped))...)
	for _, v := range volumes {
		n.Age(t, v, time.Hour) // so old that failures are errors
		n.MustPublish(t, v)
	}
	if after := append(sets(t, n.Target(plain)), sets(t, n.Target(grouped))...); !slices.Equal(before, after) {
		t.Errorf("the same content was written again: %v, then %v", before, after)
	}
	check("first")
	n.Vault.SetSecret("a", "second", devcloud.SecretOptions{})
	for _, v := range volumes {
		n.Age(t, v, time.Hour) // so old that failures are errors
		n.MustPublish(t, v)
	}
	check("second")
	if got := node.ReadFile(t, bind); got != "first" {
		t.Errorf("the subPath reads %q", got)
	}
	if err := errors.Join(unix.Unmount(bind, 0), os.RemoveAll(filepath.Join(n.PodDir(plain), "volume-subpaths"))); err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes {
		n.MustUnpublish(t, v)
	}
	if left := mounts(t, n); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// checkGroup compares the group of every folder and file of a volume, including hidden ones, with the pod's.
func checkGroup(t *testing.T, target, group string) {
	t.Helper()
	err := filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if got := fmt.Sprint(info.Sys().(*syscall.Stat_t).Gid); got != group {
			t.Errorf("%s has group %s, want %s", path, got, group)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// secbitNoRoot makes execve(2) give root no capabilities.
const secbitNoRoot = 1 << 0

func withoutCapabilities() error { return dropBounding(func(uintptr) bool { return true }) }

// dropBounding removes capabilities from the bounding set of this thread and its children.
func dropBounding(drop func(c uintptr) bool) error {
	for c := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err == nil && has == 1 && drop(c) {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// threads returns the privileges of each thread of a process.
func threads(t *testing.T, pid int) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) < 2 {
		t.Fatalf("the threads of %d: %v, %v", pid, files, err)
	}
	all := map[string]map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has just ended
		}
		all[filepath.Base(filepath.Dir(file))] = rights(string(text))
	}
	return all
}

func rights(status string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		if _, wanted := hardened("")[key]; wanted {
			found[key] = strings.TrimSpace(value)
		}
	}
	return found
}

func anyOf(threads map[string]map[string]string) map[string]string {
	for _, rights := range threads {
		return rights
	}
	return nil
}

// Only a tracer with CAP_SYS_PTRACE can read the daemon's memory. The reader and the processes have no capabilities here, which would matter
// too.
func TestMemoryIsNobodysElse(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Restrict: withoutCapabilities})
	look := func(pid int) map[string]error {
		found := map[string]error{}
		_, found["environ"] = os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		_, found["mem"] = os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		_, found["fd"] = os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid))
		_, found["maps"] = os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		return found
	}
	type result struct {
		daemon, other map[string]error
		err           error
	}
	looked := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked
		var r result
		defer func() { looked <- r }()
		if r.err = withoutCapabilities(); r.err != nil {
			return
		}
		other := exec.Command("cat") // of the same user, with the same capabilities
		stdin, err := other.StdinPipe()
		if r.err = errors.Join(err, other.Start()); r.err != nil {
			return
		}
		var none [2]unix.CapUserData
		r.err = unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		r.daemon, r.other = look(n.PID()), look(other.Process.Pid)
		_ = stdin.Close()
		_ = other.Wait()
	}()
	r := <-looked
	if r.err != nil {
		t.Fatal(r.err)
	}
	for file, err := range r.daemon {
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("/proc/PID/%s of the daemon: %v, want permission denied", file, err)
		}
		if r.other[file] != nil {
			t.Errorf("the test proves nothing: /proc/PID/%s of another process: %v", file, r.other[file])
		}
	}
}

// A crash of the daemon leaves no core file. TestNothingSecretLeaves searches its output.
func TestNoCore(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			n := node.New(t, node.Options{Env: []string{"GOTRACEBACK=crash"}, Restrict: func() error {
				_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) // if permitted
				return unix.Chdir(folder)
			}})
			if where, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", n.PID())); err != nil || where != folder {
				t.Fatalf("the daemon's working directory is %s (%v)", where, err)
			}
			if limits := node.ReadFile(t, fmt.Sprintf("/proc/%d/limits", n.PID())); !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0 bytes") {
				t.Errorf("core files are allowed:\n%s", limits)
			}
			state, err := n.StopDaemon(signal)
			if err != nil {
				t.Fatal(err)
			}
			if end := state.Sys().(syscall.WaitStatus); !end.Signaled() || end.CoreDump() {
				t.Errorf("ended with %v, want by a signal and without a core", state)
			}
			if left := names(t, folder); len(left) != 0 {
				t.Errorf("left in the working directory: %v", left)
			}
		})
	}
	t.Run("control", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		cat := exec.CommandContext(context.Background(), "cat")
		cat.Dir = folder
		stdin, err := cat.StdinPipe()
		if err == nil {
			err = cat.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdin.Close() }()
		err = unix.Prlimit(cat.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
		_ = cat.Process.Signal(syscall.SIGABRT)
		_ = cat.Wait()
		if err != nil || !cat.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
			t.Skipf("on this machine no process dumps its core, so this test proves little: %v", err)
		}
	})
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
