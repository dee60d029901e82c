package kvrun_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// asInit starts kvrun as the first process of a process namespace, as a container runtime does.
func asInit(t *testing.T, flags []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := kvrun(t, append(append(flags, "--", self), args...)...)
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	p.run()
	return p
}

// kinds are the two ways in which kvrun runs: as the first process, and as another one where the pod shares its process namespace.
var kinds = map[string]func(t *testing.T, flags []string, args ...string) *process{"first": asInit, "other": start}

// TestSignals sends every signal that can be passed on.
func TestSignals(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\n"})
	for name, run := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, []string{"--env-file", v.file("app.env"), "--on-change=restart"}, "keep=SIGTERM")
			p.started()
			for number := syscall.Signal(1); number <= 64; number++ {
				switch number {
				case unix.SIGKILL, unix.SIGSTOP, // nobody can
					unix.SIGCHLD, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU, // about kvrun itself
					unix.SIGURG, unix.SIGPROF, 32, 33, 34, // of the Go runtime and the C library
					unix.SIGTERM: // last
					continue
				}
				p.send(number)
				want := unix.SignalName(number)
				if want == "" {
					want = fmt.Sprint(int(number))
				}
				p.want(want)
			}
			p.send(unix.SIGTERM)
			p.want("SIGTERM")
			p.wantExit(9)
		})
	}
}

// children returns the children of a process with their states.
func children(t *testing.T, pid int) (all []string) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(text)) {
			stat, _ := os.ReadFile("/proc/" + child + "/stat")
			_, state, _ := strings.Cut(string(stat), ") ")
			all = append(all, child+" "+state[:min(1, len(state))])
		}
	}
	return all
}

// TestOrphans: kvrun becomes the parent of orphans and removes those that have ended.
func TestOrphans(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\n"})
	for name, run := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, []string{"--env-file", v.file("app.env"), "--on-change=restart"}, "orphan", "orphan")
			p.line()
			p.line()
			p.started()
			if got := children(t, p.Process.Pid); len(got) != 3 {
				t.Fatalf("kvrun has the children %q, want the program and two orphans", got)
			}
			_ = p.stdin.Close() // ends the orphans
			suite.Eventually(t, "only the program is left", func() bool { return len(children(t, p.Process.Pid)) == 1 })
			p.send(unix.SIGTERM)
			p.want("SIGTERM")
			p.wantExit(9)
		})
	}
}

// TestKilled: the program ends when kvrun is killed, also if kvrun is not the first process.
func TestKilled(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\n"})
	p := start(t, []string{"--env-file", v.file("app.env"), "--on-change=restart"})
	pid, _ := p.started()
	p.send(unix.SIGKILL)
	p.wantExit(-1)
	suite.Eventually(t, "the program is gone", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ") // for its new parent to reap
	})
}

// TestTerminal: the program reads and gets the signals of the keyboard, also after a restart, and kvrun does not pass them on a second time.
func TestTerminal(t *testing.T) {
	t.Parallel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("skipped because there is no terminal: ", err)
	}
	defer func() { _ = master.Close() }()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("skipped because there is no terminal: ", err)
	}
	v := newVolume(t, map[string]string{"app.env": "A='1'\n"})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := kvrun(t, "--env-file", v.file("app.env"), "--on-change=restart", "--", self, "A")
	p.Stdin = terminal
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p.run()
	_ = terminal.Close()
	for _, value := range []string{"1", "2"} {
		pid, variables := p.started()
		if foreground, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPGRP); err != nil || foreground != pid || variables != `A="`+value+`"` {
			t.Fatalf("the foreground is %d, want %d of the program with A=%s; %s, %v", foreground, pid, value, variables, err)
		}
		if _, err := master.WriteString("\x03"); err != nil {
			t.Fatal(err)
		}
		p.want("SIGINT")
		if value == "1" {
			v.replace(t, map[string]string{"app.env": "A='2'\n"})
			p.want("SIGTERM")
		}
	}
	p.send(unix.SIGTERM)
	p.want("SIGTERM")
	p.wantExit(9)
}
