package main

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
)

// loadPolicy gives the rules of --policy-file, or without one those that hold by default. The metric is there either
// way, so that an alert on it can be written before the file.
func loadPolicy(file string, registry *prometheus.Registry, logger logr.Logger) (driver.Policy, error) {
	var rules driver.Policy = policy.Default()
	failures := func() int { return 0 }
	if file != "" {
		f, err := policy.Open(func() ([]byte, error) { return readFile(file) }, func(err error) {
			if err != nil {
				logger.Error(err, "the policy file cannot be used; the last good rules hold", "file", file)
				return
			}
			logger.Info("policy reloaded", "file", file)
		})
		if err != nil {
			return nil, fmt.Errorf("--policy-file: %s: %w", file, err)
		}
		rules, failures = f, f.Failures
	}
	return rules, registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "keyvault_csi_policy_reload_errors_total",
		Help: "Changes of the policy file that could not be used; the last good rules held.",
	}, func() float64 { return float64(failures()) }))
}
