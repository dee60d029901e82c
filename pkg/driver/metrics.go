package driver

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the driver's own. No label has a value that a user could choose.
type metrics struct {
	operations *prometheus.HistogramVec
	rotations  *prometheus.CounterVec
	tampered   prometheus.Counter
	writable   prometheus.Counter
	refusals   prometheus.Counter
}

// The results of a refresh of a set that was due.
const (
	rotationChanged   = "changed"
	rotationUnchanged = "unchanged"
	rotationFailed    = "failed"
	rotationLate      = "late" // some objects are older than the interval, because the vault throttles
)

func newMetrics(version string, n *nodeServer, registry *prometheus.Registry) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyvault_csi_operations_seconds",
			Help: "Duration of calls by method and gRPC code.",
			// From a republish with nothing to do (tens of microseconds) to the two minutes after which the kubelet gives up.
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"method", "code"}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_rotations_total",
			Help: "Refreshes of volumes that were due, by result.",
		}, []string{"result"}),
		tampered: counter("keyvault_csi_tampered_volumes_total",
			"Refreshes that found a volume changed by another process, and replaced its files."),
		writable: counter("keyvault_csi_read_only_failures_total",
			"Refreshes after which the file system of a volume could not be made read-only again."),
		refusals: counter("keyvault_csi_registration_refusals_total",
			"Refusals of the kubelet to register the driver."),
	}
	for _, result := range []string{rotationChanged, rotationUnchanged, rotationFailed, rotationLate} {
		m.rotations.WithLabelValues(result) // an alert on a rate needs the series before the first failure
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(value()) })
	}
	volumes := func(state string, stale bool) prometheus.Collector {
		return gauge("keyvault_csi_volumes",
			"Volumes that the kubelet has called for since the start; stale are those that could not be refreshed for longer than is tolerated.",
			prometheus.Labels{"state": state}, func() int { return n.countVolumes(stale) })
	}
	for _, c := range []prometheus.Collector{
		m.operations, m.rotations, m.tampered, m.writable, m.refusals,
		gauge("keyvault_csi_build_info", "Always 1; the labels describe the build.",
			prometheus.Labels{"version": version, "go": runtime.Version()}, func() int { return 1 }),
		volumes("fresh", false), volumes("stale", true),
		gauge("keyvault_csi_volumes_before_refresh_after",
			"Volumes that the kubelet has called for since the start, with files that were fetched before a refreshAfter of the policy about them.",
			nil, n.countBefore),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
