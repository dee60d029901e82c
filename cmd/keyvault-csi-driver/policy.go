package main

import (
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
)

// loadPolicy gives the rules of --policy-file, or without one those that hold by default. A file that cannot be used does not
// keep the driver from starting: the volumes that are there must be removed, and need no policy. The metric is there either
// way, so that an alert on it can be written before the file.
func loadPolicy(file string, registry *prometheus.Registry, logger logr.Logger) (driver.Policy, error) {
	var rules driver.Policy = policy.Default()
	failures := func() int { return 0 }
	if file != "" {
		f := policy.Open(file, func() ([]byte, error) { return readFile(file) }, func(problem error, held bool) {
			switch {
			case problem == nil:
				logger.Info("policy reloaded", "file", file)
			case held:
				logger.Error(problem, "the policy file cannot be used; the last good rules hold", "file", file)
			default:
				logger.Error(problem, "the policy file cannot be used; everything is refused until it can", "file", file)
			}
		})
		rules, failures = f, f.Failures
	}
	return rules, registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "keyvault_csi_policy_reload_errors_total",
		Help: "How often the policy file turned out to be one that cannot be used, at the start or later.",
	}, func() float64 { return float64(failures()) }))
}
