package kvrun_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
)

// role is the variable that makes a process of this test binary the program that kvrun starts.
const role = "KVRUN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "app":
		app(os.Args[1:])
	case "middle": // starts a process and ends before it
		child := again("orphan")
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Println("orphan", child.Process.Pid)
	case "orphan":
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it
	default:
		os.Exit(mountns.Main(m))
	}
}

func again(as string) *exec.Cmd {
	command := exec.Command("/proc/self/exe")
	command.Env = []string{role + "=" + as}
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command
}

// app prints what it is started with and the signals that it gets, one in a line. Its arguments are names of variables to print, or
//
//	exit=N        ends at once
//	keep=SIGNAL   does not end at SIGTERM, but at this signal
//	orphan        leaves a process without a parent
func app(args []string) {
	received := make(chan os.Signal, 100)
	for number := syscall.Signal(1); number <= 64; number++ {
		if number != unix.SIGURG && number != unix.SIGCHLD {
			signal.Notify(received, number)
		}
	}
	last := "SIGTERM"
	line := []string{"start", strconv.Itoa(os.Getpid())}
	for _, arg := range args {
		word, value, _ := strings.Cut(arg, "=")
		switch word {
		case "exit":
			code, _ := strconv.Atoi(value)
			os.Exit(code)
		case "keep":
			last = value
		case "orphan":
			if err := again("middle").Run(); err != nil {
				panic(err)
			}
		default:
			line = append(line, fmt.Sprintf("%s=%q", arg, os.Getenv(arg)))
		}
	}
	fmt.Println(strings.Join(line, " "))
	for number := range received {
		name := unix.SignalName(number.(syscall.Signal))
		if name == "" {
			name = fmt.Sprint(int(number.(syscall.Signal)))
		}
		fmt.Println(name)
		if name == last {
			os.Exit(9)
		}
	}
}
