// Command keyvault-csi-driver is the CSI node driver: one process on each node that gives pods their Azure Key Vault
// secrets and certificates as files in memory.
//
// It is the only room that knows all the others: it turns flags into the fetcher (pkg/keyvault), the store
// (pkg/tmpfs) and the policy (pkg/policy), and hands them to the CSI services (pkg/driver).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/privilege"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// version is set when the release is built: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	if err := privilege.Drop(); err != nil {
		fmt.Fprintln(os.Stderr, "keyvault-csi-driver:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "keyvault-csi-driver:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "keyvault-csi-driver:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. Its error is one line, fit for the person who started the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, "keyvault-csi-driver", buildVersion())
		return err
	}
	muteLibraries()
	logger := newLogger(o, stderr)
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
	d, fetcher, err := newDriver(o, logger)
	if err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage) // every one of them is about a flag or HTTPS_PROXY
	}
	go tidy(ctx, fetcher)
	return d.Run(klog.NewContext(ctx, logger))
}

// newDriver joins the parts.
func newDriver(o options, logger logr.Logger) (*driver.Driver, *keyvault.Client, error) {
	roots, err := loadRoots(o.caFile)
	if err != nil {
		return nil, nil, err
	}
	registry := prometheus.NewRegistry()
	proxy, err := proxyFromEnvironment()
	if err != nil {
		return nil, nil, err
	}
	fetcher, err := keyvault.New(keyvault.Options{
		Cloud:      o.cloud,
		Proxy:      proxy,
		RootCAs:    roots,
		APIVersion: o.apiVersion,
		Logger:     logger.WithName("keyvault"),

		ClusterFile: o.clusterFile,
		ReadFile:    readFile,

		MountMaxAge:   o.mountMaxAge,
		LastKnownGood: o.lastKnownGood,
		Metrics:       registry,
	})
	if err != nil {
		return nil, nil, err
	}
	rules, err := loadPolicy(o.policyFile, registry, logger.WithName("policy"))
	if err != nil {
		return nil, nil, err
	}
	store, err := newStore(o, registry, logger.WithName("tmpfs"))
	if err != nil {
		return nil, nil, err
	}
	d, err := driver.New(driver.Config{
		Name:               o.driverName,
		Version:            buildVersion(),
		NodeID:             o.nodeID,
		Endpoint:           o.endpoint,
		KubeletRoot:        o.kubeletRoot,
		RegistrationSocket: o.registrationSocket,
		KubeletCSISocket:   o.kubeletCSISocket,
		HTTPAddress:        o.httpAddress,
		AllowReadWrite:     o.allowReadWrite,
		Limits:             volume.Limits{Bytes: int64(o.maxVolumeBytes), Files: o.maxVolumeFiles},
		Defaults: volume.Defaults{
			VaultSuffix:      o.cloud.VaultSuffix,
			TokenAudience:    o.cloud.FederationAudience,
			RotationInterval: o.rotationInterval,
			Identity:         volume.IdentityKind(o.defaultIdentity),
		},
		Fetcher:  fetcher,
		Policy:   rules,
		Store:    store,
		Registry: registry,
	})
	return d, fetcher, err
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
