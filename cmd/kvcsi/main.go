// Command kvcsi is the tool for users and developers of keyvault-csi: it shows the driver at work without a cluster and
// without Azure, runs the dev cloud that replaces Azure, and migrates and checks manifests. On the PATH as kubectl-kvcsi
// it is also the kubectl plugin "kubectl kvcsi".
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version string

// The exit codes.
const (
	exitOK         = 0
	exitError      = 1
	exitUsage      = 2
	exitIncomplete = 3 // something could not be migrated
)

const usage = `%[1]s shows and checks what keyvault-csi does.

Usage: %[1]s COMMAND [FLAGS]

Commands:
  demo       the driver's main job on this machine, with no cluster and no Azure
  dev-cloud  a Key Vault, an Entra ID and a metadata service in one process, for development and tests
  migrate    turn manifests of acs-keyvault-agent or of the Azure provider into manifests with this driver's volume
  explain    what the volumes of a pod in your cluster ask for, what the policy says, and what would be fetched
  render     check the volumes of this driver in manifests, and show the files that they would have
  status     the volumes of pods in your cluster: age, last error, ends of certificates
  version    print the version

Help on a command: %[1]s COMMAND --help
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, programName(os.Args[0]), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is a command with its arguments, flags and streams.
type command struct {
	flags          *flag.FlagSet
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run runs the command of the arguments. program is what the user has typed before them.
func run(ctx context.Context, program string, args []string, stdin io.Reader, stdout, stderr io.Writer) (exitCode int) {
	if len(args) == 0 {
		fmt.Fprintf(stderr, usage, program)
		return exitUsage
	}
	var do func(context.Context, command) (exitCode int, err error)
	switch args[0] {
	case "demo":
		do = runDemo
	case "dev-cloud":
		do = runDevCloud
	case "migrate":
		do = runMigrate
	case "render":
		do = runRender
	case "explain":
		do, stdout, stderr = runExplain, terminal{stdout}, terminal{stderr}
	case "status":
		do, stdout, stderr = runStatus, terminal{stdout}, terminal{stderr}
	case "version", "--version":
		fmt.Fprintln(stdout, "kvcsi", buildVersion())
		return exitOK
	case "help", "-h", "--help":
		fmt.Fprintf(stdout, usage, program)
		return exitOK
	default:
		fmt.Fprintf(stderr, "%s: unknown command %q; known are demo, dev-cloud, explain, migrate, render, status and version\n", program, args[0])
		return exitUsage
	}
	flags := flag.NewFlagSet(program+" "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	exitCode, err := do(ctx, command{flags, args[1:], stdin, stdout, stderr})
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", flags.Name(), err)
		exitCode = cmp.Or(exitCode, exitError) // the command may have set another code
	}
	return exitCode
}

// parsed is the result of parse if the command may go on.
const parsed = -1

// parse reads the flags. usage is called for --help and for wrong flags. A result other than parsed is the exit code of
// the command, and err what it says.
func (c command) parse(usage func()) (exitCode int, err error) {
	c.flags.Usage = usage
	switch err := c.flags.Parse(c.args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK, nil
	case err != nil:
		return exitUsage, nil //nolint:nilerr // the flag set has printed it
	case c.flags.NArg() > 0:
		return exitUsage, fmt.Errorf("unexpected argument %q", c.flags.Arg(0))
	}
	return parsed, nil
}

// printHelp prints a text and the flags. The text names the commands as those of kvcsi.
func (c command) printHelp(to io.Writer, text string) {
	program := c.flags.Name()[:strings.LastIndex(c.flags.Name(), " ")]
	fmt.Fprint(to, strings.ReplaceAll(text, "kvcsi ", program+" "))
	c.flags.SetOutput(to)
	c.flags.PrintDefaults()
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
