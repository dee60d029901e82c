package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// process is what a supervisor needs of a program.
type process interface {
	start(variables []envfile.Variable) error
	signal(s syscall.Signal)
	killGroup()
	reap() (exitCode int, ended bool)
}

// signals are those that kvrun receives.
type signals struct {
	forward  <-chan os.Signal // to pass on to the program
	children <-chan os.Signal // SIGCHLD
}

// becomeInit makes kvrun the process that gets signals and orphaned processes. It binds the goroutine to its thread, because the kernel sends
// the Pdeathsig of a child when the thread ends that started it.
func becomeInit() (signals, error) {
	runtime.LockOSThread()
	if os.Getpid() != 1 { // which gets the orphans of its namespace anyway
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return signals{}, fmt.Errorf("become the parent of orphaned processes: %w", err)
		}
	}
	forward, children := make(chan os.Signal, 64), make(chan os.Signal, 1) // 1: one SIGCHLD may be for many children
	dropped := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	for number := syscall.Signal(1); number <= 64; number++ {
		switch number {
		case unix.SIGCHLD, unix.SIGKILL, unix.SIGSTOP:
		case unix.SIGURG, unix.SIGPROF: // the Go runtime's own: it sends the one to itself all the time, and passes on none
		case unix.SIGPIPE, // when nobody reads the messages of kvrun; it would end kvrun
			unix.SIGTTIN, unix.SIGTTOU: // when kvrun is in the background of a terminal; they would stop it
			signal.Notify(dropped, number)
		default:
			signal.Notify(forward, number)
		}
	}
	return signals{forward, children}, nil
}

// supervisor runs a program until it ends by itself, or until an action ends it. It does one thing at a time.
type supervisor struct {
	program  process
	read     func() (set, error)
	onChange action
	after    func(time.Duration) <-chan time.Time
	log      func(line string)

	current    set              // the program was started with it, or has got a signal about it
	settled    <-chan time.Time // after the first of some changes
	retry      <-chan time.Time // after a read that failed
	failure    string           // of the last read; it is logged once
	overdue    <-chan time.Time // when the program has not ended after SIGTERM
	stopping   bool             // kvrun has sent SIGTERM
	terminated bool             // somebody else has sent SIGTERM: no restart any more
}

// run starts the program and returns its exit code, or that of the action.
func (s *supervisor) run(first set, received signals, changes <-chan error) (exitCode int, err error) {
	s.current = first
	if err := s.program.start(first.variables); err != nil {
		return 0, err
	}
	for {
		select {
		case number := <-received.forward:
			if number, ok := number.(syscall.Signal); ok {
				s.forward(number)
			}
		case <-received.children:
			if code, ended := s.program.reap(); ended {
				if code, over, err := s.ended(code); over {
					return code, err
				}
			}
		case lost := <-changes:
			if lost != nil {
				s.log(lost.Error())
			} else if s.settled == nil {
				s.settled = s.after(settle)
			}
		case <-s.settled:
			s.look()
		case <-s.retry:
			s.look()
		case <-s.overdue:
			s.overdue = nil
			s.log(fmt.Sprintf("the command has not ended %v after SIGTERM; it gets SIGKILL", grace))
			s.program.signal(unix.SIGKILL) // it may have changed its group
			s.program.killGroup()
		}
	}
}

func (s *supervisor) forward(number syscall.Signal) {
	switch number {
	case unix.SIGTERM:
		s.terminated = true
	case unix.SIGINT, unix.SIGQUIT: // they need not end the program: Java prints its threads at SIGQUIT
		s.terminated = s.terminated || s.stopping
	}
	s.program.signal(number)
}

// look reads the files and acts if they have changed.
func (s *supervisor) look() {
	s.settled, s.retry = nil, nil
	next, err := s.read()
	if err != nil {
		if s.failure != err.Error() {
			s.failure = err.Error()
			s.log(s.failure + "; the command keeps the values that it has")
		}
		s.retry = s.after(again)
		return
	}
	s.failure = ""
	if next.digest == s.current.digest {
		return
	}
	s.current = next
	switch {
	case s.terminated:
	case s.onChange.kind == doSignal:
		s.log("the files have changed; the command gets " + unix.SignalName(s.onChange.signal))
		s.program.signal(s.onChange.signal)
	case !s.stopping:
		s.log("the files have changed; the command gets SIGTERM")
		s.stopping = true
		s.overdue = s.after(grace)
		s.program.signal(unix.SIGTERM)
	}
}

// ended decides what follows the end of the program. over is true if kvrun ends too.
func (s *supervisor) ended(code int) (exitCode int, over bool, err error) {
	if !s.stopping || s.terminated {
		return code, true, nil
	}
	if s.onChange.kind == doExit {
		return s.onChange.code, true, nil
	}
	s.program.killGroup() // or the processes that it has left might hold its ports and files
	s.overdue = nil
	if s.settled != nil { // another change during the stop
		s.look()
	}
	s.stopping = false
	if err := s.program.start(s.current.variables); err != nil {
		return 0, true, err
	}
	return 0, false, nil
}
