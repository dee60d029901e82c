// Command kvcsi is the tool for people who use or develop keyvault-csi: it shows the driver at work without a cluster
// and without Azure, and runs the dev cloud that stands in for Azure. On the PATH as kubectl-kvcsi it is also the
// kubectl plugin "kubectl kvcsi".
package main

import (
	"context"
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
	exitIncomplete = 3 // something could not be carried over
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
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (exitCode int) {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch command, rest := args[0], args[1:]; command {
	case "demo":
		return runDemo(ctx, rest, stdout, stderr)
	case "dev-cloud":
		return runDevCloud(ctx, rest, stdout, stderr)
	case "migrate":
		return runMigrate(ctx, rest, os.Stdin, stdout, stderr)
	case "render":
		return runRender(ctx, rest, os.Stdin, stdout, stderr)
	case "version", "--version":
		fmt.Fprintln(stdout, "kvcsi", buildVersion())
		return exitOK
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	default:
		fmt.Fprintf(stderr, "kvcsi: unknown command %q; known are demo, dev-cloud, migrate, render and version\n", command)
		return exitUsage
	}
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
