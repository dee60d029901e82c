package main

import (
	"fmt"
	"math"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// newStore gives the store, whose volumes share the memory of this process, and its metrics.
func newStore(o options, registry *prometheus.Registry, logger logr.Logger) (*tmpfs.Store, error) {
	m, err := newMemory(int64(o.maxVolumeBytes), logger)
	if err != nil {
		return nil, err
	}
	store, err := tmpfs.New(tmpfs.Options{
		KubeletRoot: o.kubeletRoot,
		MaxBytes:    int64(o.maxVolumeBytes),
		MaxFiles:    o.maxVolumeFiles,
		Memory:      m.now,

		SELinuxLabel: o.selinuxLabel,
	})
	if err != nil {
		return nil, err
	}
	for _, gauge := range []struct {
		name, help string
		value      func(tmpfs.Budget) float64
	}{
		{
			"keyvault_csi_memory_limit_bytes", "Limit on the memory of the driver, which volumes count against; +Inf if there is none.",
			func(b tmpfs.Budget) float64 {
				if b.Limit == 0 {
					return math.Inf(1)
				}
				return float64(b.Limit)
			},
		},
		{
			"keyvault_csi_memory_used_bytes", "Memory that no new volume can have: volumes, room for their refreshes, and what the driver itself may take.",
			func(b tmpfs.Budget) float64 { return float64(b.Used) },
		},
		{
			"keyvault_csi_volumes_bytes", "Memory that the mounted volumes take.",
			func(b tmpfs.Budget) float64 { return float64(b.Volumes) },
		},
	} {
		err := registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help}, func() float64 {
			return gauge.value(store.Budget())
		}))
		if err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return store, nil
}
