package main

import (
	"io"
	"log"
	"log/slog"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2/textlogger"
)

// muteLibraries takes away what libraries write past the logger when the environment asks them to: net/http would show
// every header and body, tokens and client secrets with them (GODEBUG=http2debug=2), and gRPC the proxy with its password
// (GRPC_GO_LOG_SEVERITY_LEVEL=info). The Azure SDK (AZURE_SDK_GO_LOGGING=all) may speak: it leaves both out.
func muteLibraries() {
	log.SetOutput(io.Discard)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

func newLogger(o options, out io.Writer) logr.Logger {
	if o.loggingFormat == "json" {
		return logr.FromSlogHandler(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.Level(-o.verbosity)}))
	}
	return textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(out), textlogger.Verbosity(o.verbosity)))
}
