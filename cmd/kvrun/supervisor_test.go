package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// rig runs a supervisor whose program, files and timers are the test's.
type rig struct {
	forward, children chan os.Signal
	changes           chan error
	timers            map[time.Duration]chan time.Time
	exits             chan int
	content           string
	did               chan string // what the supervisor did, in its order
}

func (r *rig) start(variables []envfile.Variable) error {
	value := variables[0].Value
	r.did <- "start " + value
	if value == "missing" {
		return errors.New("app: no such file")
	}
	return nil
}

func (r *rig) signal(s syscall.Signal) { r.did <- unix.SignalName(s) }
func (r *rig) killGroup()              { r.did <- "kill the group" }

func (r *rig) reap() (exitCode int, ended bool) {
	select {
	case code := <-r.exits:
		return code, true
	default:
		return 0, false
	}
}

func (r *rig) read() (set, error) {
	text := r.content
	if text == "broken" {
		return set{}, errors.New("/secrets/app.env: line 1: there is no '='")
	}
	next := set{variables: []envfile.Variable{{Name: "A", Value: text}}}
	copy(next.digest[:], text)
	return next, nil
}

// do performs a step of a test.
func (r *rig) do(step string) {
	word, rest, _ := strings.Cut(step, " ")
	switch word {
	case "file":
		r.content = rest
	case "changed":
		r.changes <- nil
	case "lost":
		r.changes <- errors.New("/secrets is no longer watched")
	case "settled":
		r.timers[settle] <- time.Time{}
	case "again":
		r.timers[again] <- time.Time{}
	case "overdue":
		r.timers[grace] <- time.Time{}
	case "signal":
		r.forward <- unix.SignalNum(rest)
	case "orphan":
		r.children <- unix.SIGCHLD
	case "exit":
		var code int
		fmt.Sscan(rest, &code)
		r.exits <- code
		r.children <- unix.SIGCHLD
	default:
		panic(step)
	}
}

func TestSupervisor(t *testing.T) {
	t.Parallel()
	hup := action{kind: doSignal, signal: unix.SIGHUP}
	restart := action{kind: doRestart}
	exit42 := action{kind: doExit, code: 42}
	const changed, term = "the files have changed; the command gets SIGTERM", "SIGTERM"
	for _, test := range []struct {
		name     string
		onChange action
		steps    []string
		want     []string // after "start 1"
	}{
		{"exit code", restart, []string{"exit 3"}, []string{"exit 3"}},
		{"signals are passed on", restart, []string{"signal SIGUSR1", "signal SIGWINCH", "signal SIGTERM", "exit 143"},
			[]string{"SIGUSR1", "SIGWINCH", "SIGTERM", "exit 143"}},
		{"orphans end without consequence", restart, []string{"orphan", "orphan", "exit 0"}, []string{"exit 0"}},

		{"signal", hup, []string{"file 2", "changed", "settled", "exit 0"},
			[]string{"wait 500ms", "the files have changed; the command gets SIGHUP", "SIGHUP", "exit 0"}},
		{"many changes are one", hup, []string{"file 2", "changed", "changed", "file 3", "changed", "settled", "exit 0"},
			[]string{"wait 500ms", "the files have changed; the command gets SIGHUP", "SIGHUP", "exit 0"}},
		{"two changes", hup, []string{"file 2", "changed", "settled", "file 3", "changed", "settled", "exit 0"},
			[]string{
				"wait 500ms", "the files have changed; the command gets SIGHUP", "SIGHUP",
				"wait 500ms", "the files have changed; the command gets SIGHUP", "SIGHUP", "exit 0",
			}},
		{"equal files", hup, []string{"changed", "settled", "exit 0"}, []string{"wait 500ms", "exit 0"}},
		{"there and back", hup, []string{"file 2", "changed", "file 1", "changed", "settled", "exit 0"}, []string{"wait 500ms", "exit 0"}},
		{"broken, then as before", hup, []string{"file broken", "changed", "settled", "file 1", "changed", "settled", "exit 0"},
			[]string{
				"wait 500ms", "/secrets/app.env: line 1: there is no '='; the command keeps the values that it has", "wait 10s",
				"wait 500ms", "exit 0",
			}},
		{"broken for a while, and no change after it", hup, []string{"file broken", "changed", "settled", "again", "file 2", "again", "exit 0"},
			[]string{
				"wait 500ms", "/secrets/app.env: line 1: there is no '='; the command keeps the values that it has", "wait 10s", "wait 10s",
				"the files have changed; the command gets SIGHUP", "SIGHUP", "exit 0",
			}},
		{"volume lost", hup, []string{"lost", "signal SIGUSR1", "exit 0"}, []string{"/secrets is no longer watched", "SIGUSR1", "exit 0"}},
		{"no signal to a program that was told to end", hup, []string{"signal SIGTERM", "file 2", "changed", "settled", "exit 0"},
			[]string{"SIGTERM", "wait 500ms", "exit 0"}},

		{"restart", restart, []string{"file 2", "changed", "settled", "exit 143", "exit 5"},
			[]string{"wait 500ms", changed, "wait 30s", term, "kill the group", "start 2", "exit 5"}},
		{"restart of a program that does not end", restart, []string{"file 2", "changed", "settled", "overdue", "exit 137", "exit 5"},
			[]string{
				"wait 500ms", changed, "wait 30s", term,
				"the command has not ended 30s after SIGTERM; it gets SIGKILL", "SIGKILL", "kill the group", "kill the group", "start 2", "exit 5",
			}},
		{"change during a stop", restart, []string{"file 2", "changed", "settled", "file 3", "changed", "settled", "exit 143", "exit 5"},
			[]string{"wait 500ms", changed, "wait 30s", term, "wait 500ms", "kill the group", "start 3", "exit 5"}},
		{"change at the end of a stop", restart, []string{"file 2", "changed", "settled", "file 3", "changed", "exit 143", "exit 5"},
			[]string{"wait 500ms", changed, "wait 30s", term, "wait 500ms", "kill the group", "start 3", "exit 5"}},
		{"broken during a stop", restart, []string{"file 2", "changed", "settled", "file broken", "changed", "exit 143", "exit 5"},
			[]string{
				"wait 500ms", changed, "wait 30s", term, "wait 500ms", "kill the group",
				"/secrets/app.env: line 1: there is no '='; the command keeps the values that it has", "wait 10s", "start 2", "exit 5",
			}},
		{"two restarts", restart, []string{"file 2", "changed", "settled", "exit 0", "file 3", "changed", "settled", "exit 0", "exit 5"},
			[]string{
				"wait 500ms", changed, "wait 30s", term, "kill the group", "start 2",
				"wait 500ms", changed, "wait 30s", term, "kill the group", "start 3", "exit 5",
			}},
		{"SIGTERM during a restart", restart, []string{"file 2", "changed", "settled", "signal SIGTERM", "exit 7"},
			[]string{"wait 500ms", changed, "wait 30s", term, term, "exit 7"}},
		{"SIGQUIT during a restart", restart, []string{"file 2", "changed", "settled", "signal SIGQUIT", "exit 7"},
			[]string{"wait 500ms", changed, "wait 30s", term, "SIGQUIT", "exit 7"}},
		{"SIGHUP during a restart", restart, []string{"file 2", "changed", "settled", "signal SIGHUP", "exit 7", "exit 5"},
			[]string{"wait 500ms", changed, "wait 30s", term, "SIGHUP", "kill the group", "start 2", "exit 5"}},
		{"SIGQUIT before a restart", restart, []string{"signal SIGQUIT", "file 2", "changed", "settled", "exit 7", "exit 5"},
			[]string{"SIGQUIT", "wait 500ms", changed, "wait 30s", term, "kill the group", "start 2", "exit 5"}},
		{"change after SIGTERM", restart, []string{"signal SIGTERM", "file 2", "changed", "settled", "exit 7"},
			[]string{"SIGTERM", "wait 500ms", "exit 7"}},
		{"restart of what is gone", restart, []string{"file missing", "changed", "settled", "exit 0"},
			[]string{"wait 500ms", changed, "wait 30s", term, "kill the group", "start missing", "app: no such file"}},

		{"exit", exit42, []string{"file 2", "changed", "settled", "exit 0"}, []string{"wait 500ms", changed, "wait 30s", term, "exit 42"}},
		{"exit by itself", exit42, []string{"exit 0"}, []string{"exit 0"}},
		{"exit, after SIGTERM of another", exit42, []string{"file 2", "changed", "settled", "signal SIGTERM", "exit 0"},
			[]string{"wait 500ms", changed, "wait 30s", term, term, "exit 0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(test.want, play(t, test.onChange, test.steps)); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		})
	}
}

// play performs the steps and returns what the supervisor did after the first start.
func play(t *testing.T, onChange action, steps []string) []string {
	t.Helper()
	r := &rig{
		forward: make(chan os.Signal), children: make(chan os.Signal), changes: make(chan error),
		timers: map[time.Duration]chan time.Time{settle: make(chan time.Time), again: make(chan time.Time), grace: make(chan time.Time)},
		exits:  make(chan int, 1),
		did:    make(chan string, 100),
	}
	r.do("file 1")
	s := supervisor{program: r, read: r.read, onChange: onChange, log: func(line string) { r.did <- line }}
	s.after = func(d time.Duration) <-chan time.Time {
		r.did <- "wait " + d.String()
		return r.timers[d]
	}
	first, err := r.read()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		code, err := s.run(first, signals{r.forward, r.children}, r.changes)
		if err != nil {
			r.did <- err.Error()
		} else {
			r.did <- fmt.Sprintf("exit %d", code)
		}
		close(r.did)
	}()
	for _, step := range steps {
		synctest.Wait() // until the supervisor has handled the step before
		r.do(step)
	}
	var did []string
	for what := range r.did {
		did = append(did, what)
	}
	return did[1:]
}
