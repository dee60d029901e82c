package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A change is seen where the kernel reports none: in a virtual machine that has the volume from its node (Kata Containers).
func TestPoll(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	replace(t, volume, "..0", map[string]string{"a.env": "A='0'\n"})
	all, err := locate([]string{filepath.Join(volume, "a.env")})
	if err != nil {
		t.Fatal(err)
	}
	seen, err := all.current()
	if err != nil {
		t.Fatal(err)
	}
	ticks, changes := make(chan time.Time), make(chan error, 10)
	go all.poll(seen, ticks, changes)
	look := func(want int) {
		t.Helper()
		ticks <- time.Time{}
		ticks <- time.Time{} // the first is done
		if got := len(changes); got != want {
			t.Errorf("%d changes, want %d", got, want)
		}
	}
	look(0)
	replace(t, volume, "..1", map[string]string{"a.env": "A='1'\n"})
	look(1)
	look(1)
	replace(t, volume, "..2", map[string]string{"a.env": "A='2'\n"})
	look(2)
	close(ticks)
}

// A node can be out of inotify instances, which are counted by user. The program starts then, too.
func TestWithoutInotify(t *testing.T) {
	t.Parallel()
	const inside = "KVRUN_WITHOUT_INOTIFY"
	if os.Getenv(inside) == "" {
		again := exec.Command(os.Args[0], "-test.run=^TestWithoutInotify$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		out, err := again.CombinedOutput()
		switch ended := new(exec.ExitError); {
		case err != nil && !errors.As(err, &ended):
			t.Skip("no user namespace can be had, in which nobody else needs inotify: ", err)
		case strings.Contains(string(out), "--- SKIP"):
			t.Skipf("the limit of inotify cannot be set: %s", out)
		case err != nil:
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0o600); err != nil {
		t.Skip(err)
	}
	volume := t.TempDir()
	replace(t, volume, "..0", map[string]string{"a.env": "A='7'\n"})
	var said bytes.Buffer
	code, err := run([]string{"--env-file", filepath.Join(volume, "a.env"), "--on-change=restart", "--", "/bin/sh", "-c", "exit $A"}, nil, io.Discard, &said)
	if code != 7 || err != nil || !strings.Contains(said.String(), "fs.inotify.max_user_instances") {
		t.Errorf("exit code %d, %v\n%s", code, err, &said)
	}
}
