package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// program is the command, and its process while it runs.
type program struct {
	command     []string
	environment []string // kvrun's own, before it changes PATH
	pid         int      // also the number of its process group
}

// prepare finds the executable in the PATH of the program, and returns it with the environment.
func (p *program) prepare(variables []envfile.Variable) (path string, env []string, err error) {
	env = environment(p.environment, variables)
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			if err := os.Setenv("PATH", value); err != nil { // of kvrun, because LookPath takes no other
				return "", nil, err
			}
		}
	}
	path, err = exec.LookPath(p.command[0])
	return path, env, err
}

// replaceSelf executes the program in the process of kvrun. It returns only if that fails.
func (p *program) replaceSelf(variables []envfile.Variable) error {
	path, env, err := p.prepare(variables)
	if err == nil {
		err = syscall.Exec(path, p.command, env) //nolint:gosec // G204: the user's command
	}
	return p.failed(err)
}

// start starts the program in a process group of its own, so that what it leaves behind can be killed. If kvrun is in the foreground of a
// terminal, the new group becomes the foreground group: it may read from the terminal, and gets the signals that keys send.
func (p *program) start(variables []envfile.Variable) error {
	path, env, err := p.prepare(variables)
	if err != nil {
		return p.failed(err)
	}
	foreground, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	isOurs := err == nil && (foreground == unix.Getpgrp() || foreground == p.pid) // p.pid: of the last start
	p.pid, err = syscall.ForkExec(path, p.command, &syscall.ProcAttr{             //nolint:gosec // G204: the user's command
		Env:   env,
		Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{
			Setpgid:    true,
			Foreground: isOurs,          // of the terminal Ctty, which is 0
			Pdeathsig:  syscall.SIGKILL, // if kvrun is killed where it is not the first process of its namespace
		},
	})
	return p.failed(err)
}

func (p *program) failed(err error) error {
	if err == nil {
		return nil
	}
	if failed, ok := errors.AsType[*exec.Error](err); ok {
		err = failed.Err
	}
	return startError{fmt.Errorf("%s: %w", p.command[0], cause(err))}
}

// startError is returned if the program could not be started.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

func (e startError) exitCode() int {
	if errors.Is(e, exec.ErrNotFound) || errors.Is(e, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotExecutable
}

// signal sends a signal to the process, and not to its group: a container's first process gets signals alone, too. It must not be called after
// reap has reported the end, because the number may be another's then.
func (p *program) signal(s syscall.Signal) { _ = unix.Kill(p.pid, s) }

// killGroup kills what is left of the group. Its number is free only when no process of the group is left.
func (p *program) killGroup() { _ = unix.Kill(-p.pid, unix.SIGKILL) }

// reap collects every process that has ended: the program and orphans. It returns the exit code of the program if that was one of them.
func (p *program) reap() (exitCode int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid == 0:
			return exitCode, ended
		case pid == p.pid && status.Signaled():
			exitCode, ended = 128+int(status.Signal()), true
		case pid == p.pid:
			exitCode, ended = status.ExitStatus(), true
		}
	}
}
