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

const usage = `kvcsi shows and checks what keyvault-csi does.

Usage: kvcsi COMMAND [FLAGS]

Commands:
  demo       the driver's main job on this machine, with no cluster and no Azure
  dev-cloud  a Key Vault, an Entra ID and a metadata service in one process, for development and tests
  migrate    turn manifests of acs-keyvault-agent or of the Azure provider into manifests with this driver's volume
  render     check the volumes of this driver in manifests, and show the files that they would have
  version    print the version

Help on a command: kvcsi COMMAND --help
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
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

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (exitCode int) {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
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
	case "version", "--version":
		fmt.Fprintln(stdout, "kvcsi", buildVersion())
		return exitOK
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	default:
		fmt.Fprintf(stderr, "kvcsi: unknown command %q; known are demo, dev-cloud, migrate, render and version\n", args[0])
		return exitUsage
	}
	flags := flag.NewFlagSet("kvcsi "+args[0], flag.ContinueOnError)
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

// printHelp prints a text and the flags.
func (c command) printHelp(to io.Writer, text string) {
	fmt.Fprint(to, text)
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
