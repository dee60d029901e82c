package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	start := options{envFiles: []string{"/a"}, command: []string{"app"}}
	with := func(onChange action) options {
		o := start
		o.onChange = onChange
		return o
	}
	for _, test := range []struct {
		args string
		want options
	}{
		{"--env-file /a -- app", start},
		{"--env-file=/a --on-change=none app", start},
		{"--env-file /a --env-file b/c -- app --install -- -x", options{envFiles: []string{"/a", "b/c"}, command: []string{"app", "--install", "--", "-x"}}},
		{"--env-file /a --on-change signal:HUP -- app", with(action{kind: doSignal, signal: unix.SIGHUP})},
		{"--env-file /a --on-change=signal:SIGUSR2 -- app", with(action{kind: doSignal, signal: unix.SIGUSR2})},
		{"--env-file /a --on-change=restart -- app", with(action{kind: doRestart})},
		{"--env-file /a --on-change=exit:42 -- app", with(action{kind: doExit, code: 42})},
		{"--env-file /a --on-change=exit:0 -- app", with(action{kind: doExit})},
		{"--install /shared", options{install: "/shared", command: []string{}}},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			got, err := parse(strings.Fields(test.args), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(options{}, action{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                "there is no --env-file; name at least one",
		"-- app":                          "there is no --env-file; name at least one",
		"--env-file /a":                   "there is no command; add -- COMMAND",
		"--env-file= -- app":              `invalid value "" for flag -env-file: it is empty; name a file`,
		"--install /x -- app":             "--install stands alone; it starts no command",
		"--install /x --env-file /a":      "--install stands alone; it starts no command",
		"--on-change=reload":              `invalid value "reload" for flag -on-change: want none, signal:NAME, restart or exit:CODE`,
		"--on-change=restart:now":         `invalid value "restart:now" for flag -on-change: want none, signal:NAME, restart or exit:CODE`,
		"--on-change=signal":              `invalid value "signal" for flag -on-change: there is no such signal; write for example signal:HUP`,
		"--on-change=signal:hup":          `invalid value "signal:hup" for flag -on-change: there is no such signal; write for example signal:HUP`,
		"--on-change=signal:SIGSIGHUP":    `invalid value "signal:SIGSIGHUP" for flag -on-change: there is no such signal; write for example signal:HUP`,
		"--on-change=signal:KILL":         `invalid value "signal:KILL" for flag -on-change: no program can handle this signal; use restart or exit:CODE`,
		"--on-change=exit":                `invalid value "exit" for flag -on-change: the exit code is not a number from 0 to 255; write for example exit:42`,
		"--on-change=exit:256":            `invalid value "exit:256" for flag -on-change: the exit code is not a number from 0 to 255; write for example exit:42`,
		"--envfile /a -- app":             "flag provided but not defined: -envfile",
		"--env-file /a --watch /b -- app": "flag provided but not defined: -watch",
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		if err == nil || err.Error() != want {
			t.Errorf("%q: the error is %v, want %s", args, err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := parse([]string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) || out.String() != usage {
		t.Errorf("the error is %v and the help\n%s", err, out.String())
	}
}
