// Command keyvault-csi-driver is the CSI node driver: one process on each node that gives pods their Azure Key Vault
// secrets and certificates as files in memory.
//
// It turns flags into the fetcher (pkg/keyvault), the store (pkg/tmpfs) and the policy (pkg/policy), and passes them to the
// CSI services (pkg/driver), whose pipeline the service for the Secrets Store CSI Driver (pkg/provider) uses too. None of these
// packages imports another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/pkg/privilege"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// version is set when the release is built: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	err := privilege.Drop() // first: it may execute the program again
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "keyvault-csi-driver:", err)
	code := 1
	if errors.Is(err, errUsage) {
		code = 2
	}
	os.Exit(code)
}

// run serves until ctx ends. Its error is one line for the person who started the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, "keyvault-csi-driver", buildVersion())
		return err
	}
	if err := tmpfs.CheckKernel(); err != nil {
		return err
	}
	muteLibraries()
	logger := newLogger(o, stderr)
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
	d, err := newDaemon(o, logger)
	if err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage) // all are about a flag or the environment
	}
	go d.tidy(ctx)
	return d.driver.Run(klog.NewContext(ctx, logger))
}

// muteLibraries discards what libraries write without the logger if the environment asks for it: net/http writes every header and
// body, with tokens and client secrets (GODEBUG=http2debug=2), and gRPC writes the address of the proxy with its password
// (GRPC_GO_LOG_SEVERITY_LEVEL=info). The Azure SDK (AZURE_SDK_GO_LOGGING=all) leaves both out, but shows the body of every answer
// that is not 2xx, which may contain anything. Only its requests, the heads of its answers and its retries remain.
func muteLibraries() {
	log.SetOutput(io.Discard)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	azlog.SetEvents(azlog.EventRequest, azlog.EventResponse, azlog.EventRetryPolicy)
}

func newLogger(o options, out io.Writer) logr.Logger {
	if o.loggingFormat == "json" {
		return logr.FromSlogHandler(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.Level(-o.verbosity)}))
	}
	return textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(out), textlogger.Verbosity(o.verbosity)))
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
