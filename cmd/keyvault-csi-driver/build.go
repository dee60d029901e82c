package main

import (
	"fmt"
	"math"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// daemon is what runs.
type daemon struct {
	driver   *driver.Driver
	fetcher  *keyvault.Client
	provider *provider.Server
}

func newDaemon(o options, logger logr.Logger) (d daemon, err error) {
	registry := prometheus.NewRegistry()
	if o.keyvault.RootCAs, err = loadRoots(o.caFile); err != nil {
		return d, err
	}
	if o.keyvault.Proxy, err = proxyFromEnvironment(); err != nil {
		return d, err
	}
	o.keyvault.ReadFile, o.keyvault.Metrics, o.keyvault.Logger = readFile, registry, logger.WithName("keyvault")
	if d.fetcher, err = keyvault.New(o.keyvault); err != nil {
		return d, err
	}
	store, err := newStore(o, registry, logger.WithName("tmpfs"))
	if err != nil {
		return d, err
	}
	o.driver.Version = buildVersion()
	o.driver.Defaults.VaultSuffix, o.driver.Defaults.TokenAudience = o.keyvault.Cloud.VaultSuffix, o.keyvault.Cloud.FederationAudience
	o.driver.Defaults.CSIDriver = o.driver.Name
	o.driver.Fetcher, o.driver.Store, o.driver.Registry = d.fetcher, store, registry
	o.driver.Policy = newPolicy(o.policyFile, registry, logger.WithName("policy"))
	if d.driver, err = driver.New(o.driver); err != nil {
		return d, err
	}
	o.class.Defaults, o.class.Cloud, o.class.FileOrder = o.driver.Defaults, o.cloud, !o.constructPEMChain
	d.provider, err = provider.New(provider.Options{
		Version: o.driver.Version, Class: o.class, Metrics: registry, Pipeline: d.driver.Pipeline(),
	})
	if err == nil && o.providerSocket != "" {
		if err = d.driver.AddService(o.providerSocket, d.provider); err != nil {
			err = fmt.Errorf("--provider-socket: %w", err)
		}
	}
	return d, err
}

// newStore also registers the metrics of the memory that the volumes share with this process.
func newStore(o options, registry *prometheus.Registry, logger logr.Logger) (*tmpfs.Store, error) {
	limits := o.driver.Limits
	m, err := newMemory(limits.Bytes, logger)
	if err != nil {
		return nil, err
	}
	source := o.driver.Name
	if source == defaultDriverName {
		source = "" // as in earlier versions, whose volumes a new process must find
	}
	store, err := tmpfs.New(tmpfs.Options{
		KubeletRoot: o.driver.KubeletRoot, Source: source, MaxBytes: limits.Bytes, MaxFiles: limits.Files, Memory: m.get, SELinuxLabel: o.selinuxLabel,
	})
	if err != nil {
		return nil, err
	}
	gauge := func(name, help string, value func(tmpfs.Budget) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(store.Budget()) }))
	}
	gauge("keyvault_csi_memory_limit_bytes", "Limit on the memory of the driver, to which volumes are charged; +Inf if there is none.",
		func(b tmpfs.Budget) float64 {
			if b.Limit == 0 {
				return math.Inf(1)
			}
			return float64(b.Limit)
		})
	gauge("keyvault_csi_memory_used_bytes", "Memory that new volumes cannot use: volumes, memory reserved for their refreshes, and the maximum of the driver itself.",
		func(b tmpfs.Budget) float64 { return float64(b.Used) })
	gauge("keyvault_csi_volumes_bytes", "Memory of the mounted volumes.",
		func(b tmpfs.Budget) float64 { return float64(b.Volumes) })
	return store, nil
}
