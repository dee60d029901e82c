package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const usage = `kvrun starts a program with environment variables from files.

Usage: kvrun --env-file FILE [--env-file FILE ...] [--on-change ACTION] -- COMMAND [ARGUMENT ...]
       kvrun --install FOLDER

Flags:
  --env-file FILE     lines of the form NAME='value', as in Kubernetes' fileKeyRef. A variable of a file replaces
                      one of kvrun's own environment, and one of an earlier file
  --on-change ACTION  what to do when the volume of an --env-file changes, any of its files:
                        none         nothing; kvrun becomes the program (default)
                        signal:NAME  send a signal to the program, for example signal:HUP
                        restart      stop the program and start it again with the new variables
                        exit:CODE    stop the program and exit with the code, so that the kubelet restarts the container
                      To stop is SIGTERM, and SIGKILL after 30 seconds
  --install FOLDER    copy kvrun to FOLDER/kvrun and exit
  --version           print the version and exit

With --on-change other than none kvrun passes signals on to the program, and reaps orphaned processes.
Exit code: that of the program, or 128 and the number of the signal that killed it; 125 if kvrun fails,
126 if the command cannot be executed, 127 if it is not found.
`

// options are the command line.
type options struct {
	envFiles []string
	onChange action
	command  []string
	install  string
	version  bool
}

type kind int

const (
	doNothing kind = iota
	doSignal
	doRestart
	doExit
)

// action is what to do after a change.
type action struct {
	kind   kind
	signal syscall.Signal // of doSignal
	code   int            // of doExit
}

// parse writes only the help; its error is for standard error.
func parse(args []string, stdout io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("kvrun", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("env-file", "", func(path string) error {
		if path == "" {
			return errors.New("it is empty; name a file")
		}
		o.envFiles = append(o.envFiles, path)
		return nil
	})
	flags.Func("on-change", "", func(text string) (err error) {
		o.onChange, err = parseAction(text)
		return err
	})
	flags.StringVar(&o.install, "install", "", "")
	flags.BoolVar(&o.version, "version", false, "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, usage)
		}
		return options{}, err
	}
	o.command = flags.Args()
	switch {
	case o.version:
	case o.install != "":
		if len(o.envFiles)+len(o.command) != 0 {
			return options{}, errors.New("--install stands alone; it starts no command")
		}
	case len(o.envFiles) == 0:
		return options{}, errors.New("there is no --env-file; name at least one")
	case len(o.command) == 0:
		return options{}, errors.New("there is no command; add -- COMMAND")
	}
	return o, nil
}

func parseAction(text string) (action, error) {
	word, value, _ := strings.Cut(text, ":")
	switch {
	case text == "none":
		return action{kind: doNothing}, nil
	case text == "restart":
		return action{kind: doRestart}, nil
	case word == "signal":
		number := unix.SignalNum("SIG" + strings.TrimPrefix(value, "SIG"))
		switch number {
		case 0:
			return action{}, errors.New("there is no such signal; write for example signal:HUP")
		case unix.SIGKILL, unix.SIGSTOP:
			return action{}, errors.New("no program can handle this signal; use restart or exit:CODE")
		}
		return action{kind: doSignal, signal: number}, nil
	case word == "exit":
		code, err := strconv.ParseUint(value, 10, 8)
		if err != nil {
			return action{}, errors.New("the exit code is not a number from 0 to 255; write for example exit:42")
		}
		return action{kind: doExit, code: int(code)}, nil
	}
	return action{}, errors.New("want none, signal:NAME, restart or exit:CODE")
}
