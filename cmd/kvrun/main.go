// Command kvrun starts a program with environment variables from files, such as those of a volume of keyvault-csi, and signals or restarts it
// when the files change. It is made to be the first process of a container whose image knows nothing of it: one static binary without
// configuration.
//
// Without --on-change it replaces itself by the program. With it, it stays as the init process of the container (supervisor) and watches the
// volumes of the files (watch). A volume is replaced as a whole, by a rename of its link ..data; files are read from one such set (files.read).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "unknown"

// Exit codes of kvrun itself, as of env(1) and timeout(1); any other one is that of the program.
const (
	exitFailed        = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

const (
	// settle is how long kvrun waits after a change, because the volumes of a pod change one after the other.
	settle = 500 * time.Millisecond
	// again is how long kvrun waits after a read that failed: the cause may be temporary, such as a node that has no more open files
	// available.
	again = 10 * time.Second
	// pollEvery is how often kvrun looks for changes that the kernel does not report.
	pollEvery = 30 * time.Second
	// grace is the time from SIGTERM to SIGKILL. It is the kubelet's default.
	grace = 30 * time.Second
)

func main() {
	code, err := run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kvrun:", err)
		code = failureCode(err)
	}
	os.Exit(code)
}

// run returns the exit code of the program, or an error of kvrun. It does not return if kvrun becomes the program.
func run(args, environment []string, stdout, stderr io.Writer) (exitCode int, err error) {
	o, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("%w (kvrun --help)", err)
	case o.version:
		_, err = fmt.Fprintln(stdout, "kvrun", version)
		return 0, err
	case o.install != "":
		return 0, install(o.install)
	}
	all, err := locate(o.envFiles)
	if err != nil {
		return 0, err
	}
	p := program{command: o.command, environment: environment}
	if o.onChange.kind != doNothing {
		return supervise(all, &p, o.onChange, stderr)
	}
	set, err := all.read()
	if err != nil {
		return 0, err
	}
	return 0, p.replaceSelf(set.variables)
}

// supervise watches the files and runs the program until it ends.
func supervise(all files, p *program, onChange action, stderr io.Writer) (exitCode int, err error) {
	for _, f := range all {
		if f.volume == "" {
			return 0, fmt.Errorf("%s: no folder above it has a link %s, so changes cannot be seen; mount the whole volume without subPath, "+
				"or use --on-change=none", f.path, dataLink)
		}
	}
	log := func(line string) { fmt.Fprintln(stderr, "kvrun:", line) }
	changes := make(chan error)
	if err := watch(all.volumes(), changes); err != nil {
		log(fmt.Sprintf("%v; changes are seen up to %v later", err, pollEvery))
	}
	seen, err := all.current() // after the watch has begun, so that no change is missed
	if err != nil {
		return 0, err
	}
	set, err := all.read()
	if err != nil {
		return 0, err
	}
	go all.poll(seen, time.Tick(pollEvery), changes)
	received, err := becomeInit()
	if err != nil {
		return 0, err
	}
	s := supervisor{
		program:  p,
		read:     all.read,
		onChange: onChange,
		after:    time.After,
		log:      log,
	}
	return s.run(set, received, changes)
}

// failureCode is the exit code of kvrun if it fails itself.
func failureCode(err error) int {
	if failed, ok := errors.AsType[startError](err); ok {
		return failed.exitCode()
	}
	return exitFailed
}
