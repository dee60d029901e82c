// Command keyvault-csi-sync keeps Kubernetes Secrets of one namespace as the files of its volume of keyvault-csi.io are. It is for readers
// that take nothing but a Secret: ingress controllers, imagePullSecrets, charts with existingSecret.
//
// It turns flags into the API client (internal/api) and the loop (internal/syncer), and serves its status (internal/status).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/fileset"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/status"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/syncer"
)

// version is set when the release is built: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	boundMemory()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "keyvault-csi-sync:", err)
	code := 1
	if errors.Is(err, errUsage) {
		code = 2
	}
	os.Exit(code)
}

// memoryLimit is what Go may take before it collects garbage and gives memory back to the system at once. A hundred Secrets need 6 MiB; the rest
// of the 20 MiB that the program may take is its own code. The limit is soft: with larger Secrets the program takes more, and more time.
const memoryLimit = 8 << 20

// boundMemory keeps the program small: it runs in each namespace that wants it, and a rotation of a hundred Secrets makes some megabytes of
// garbage. GOGC and GOMEMLIMIT in the environment take precedence.
func boundMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// run keeps the Secrets until ctx ends. Its error is one line for the person who started the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, "keyvault-csi-sync", buildVersion())
		return err
	}
	log := newLogger(o, stderr)
	server, err := restConfig(o.kubeconfig)
	if err != nil {
		return fmt.Errorf("the API server: %w", err)
	}
	client, err := api.New(server, o.namespace)
	if err != nil {
		return fmt.Errorf("the API server: %w", err)
	}
	if o.check {
		return check(ctx, o, client, stdout)
	}
	changed := make(chan struct{}, 1)
	switch err := fileset.Watch(ctx, changed, o.volume, filepath.Dir(o.configFile)); {
	case errors.Is(err, fs.ErrNotExist): // a wrong flag
		return err
	case err != nil:
		log.Warn("a change of the files is seen up to 30 seconds later", "error", err.Error())
	}
	s := syncer.New(syncer.Options{
		Name: o.name, Volume: o.volume, API: client, Log: log, Changed: changed,
		ReadConfig: func() ([]byte, error) { return os.ReadFile(o.configFile) }, //nolint:gosec // G703: whoever starts it names the file
	})
	log.Info("keyvault-csi-sync starts", "version", buildVersion(), "name", o.name, "namespace", o.namespace)
	if err := serve(ctx, o.httpAddress, s); err != nil {
		return err
	}
	s.Run(ctx)
	return nil
}

// check looks at the Secrets once.
func check(ctx context.Context, o options, client *api.Client, out io.Writer) error {
	text, err := os.ReadFile(o.configFile)
	if err != nil {
		return err
	}
	c, err := config.Parse(text)
	if err != nil {
		return err
	}
	if err := syncer.Check(ctx, client, c, o.name); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "all %d Secrets are kept by %s\n", len(c.Secrets), o.name)
	return err
}

// restConfig has the service account of the pod, unless there is a kubeconfig.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// serve serves the status until ctx ends.
func serve(ctx context.Context, address string, s *syncer.Syncer) error {
	if address == "" {
		return nil
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--http-address: %w (%w)", err, errUsage)
	}
	server := &http.Server{
		Handler:           status.Handler(s.Status, time.Now, buildVersion()),
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return nil
}

func newLogger(o options, out io.Writer) *slog.Logger {
	level := slog.Level(-o.verbosity)
	if o.loggingFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
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
