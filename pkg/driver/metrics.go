package driver

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc/codes"
)

// metrics are the driver's own. No label has a value that a user could choose.
type metrics struct {
	operations *prometheus.HistogramVec
	rotations  *prometheus.CounterVec
	tampered   prometheus.Counter
	writable   prometheus.Counter
	refusals   prometheus.Counter
}

// The results of a rotation: a refresh of a set that was there and had come of age.
const (
	rotationChanged   = "changed"
	rotationUnchanged = "unchanged"
	rotationFailed    = "failed"
)

func newMetrics(registry *prometheus.Registry, version string) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyvault_csi_operations_seconds",
			Help: "Duration of CSI calls by method and gRPC code.",
			// From a republish that finds nothing to do (tens of microseconds) over a warm fetch (milliseconds) to the
			// two minutes after which the kubelet gives up.
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"method", "code"}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_rotations_total",
			Help: "Refreshes of volumes that had come of age, by result.",
		}, []string{"result"}),
		tampered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyvault_csi_tampered_volumes_total",
			Help: "Refreshes that found a volume changed by somebody else, and replaced its files.",
		}),
		writable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyvault_csi_read_only_failures_total",
			Help: "Refreshes after which the file system of a volume could not be made read-only again.",
		}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyvault_csi_registration_refusals_total",
			Help: "Refusals of the kubelet to register the driver.",
		}),
	}
	// An alert on the rate of failures needs the series before the first failure.
	for _, result := range []string{rotationChanged, rotationUnchanged, rotationFailed} {
		m.rotations.WithLabelValues(result)
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "keyvault_csi_build_info",
		Help: "Always 1; the labels say which build runs.",
	}, []string{"version", "go"})
	build.WithLabelValues(version, runtime.Version()).Set(1)

	for _, c := range []prometheus.Collector{
		m.operations, m.rotations, m.tampered, m.writable, m.refusals, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// volumeStates counts the volumes of the node when it is asked to.
type volumeStates struct {
	node *nodeServer
	desc *prometheus.Desc
}

// The states of a volume.
const (
	stateFresh = "fresh"
	stateStale = "stale"
)

func newVolumeStates(n *nodeServer) *volumeStates {
	return &volumeStates{node: n, desc: prometheus.NewDesc("keyvault_csi_volumes",
		"Volumes that the kubelet has called for since the start; stale are those that could not be refreshed for longer than is tolerated.",
		[]string{"state"}, nil)}
}

func (v *volumeStates) Describe(descs chan<- *prometheus.Desc) { descs <- v.desc }

func (v *volumeStates) Collect(metrics chan<- prometheus.Metric) {
	all, stale := 0, v.node.notes.stale()
	v.node.volumes.Range(func(any, any) bool {
		all++
		return true
	})
	for state, count := range map[string]int{stateFresh: max(0, all-stale), stateStale: stale} {
		metrics <- prometheus.MustNewConstMetric(v.desc, prometheus.GaugeValue, float64(count), state)
	}
}

func (m *metrics) operation(method string, code codes.Code, d time.Duration) {
	m.operations.WithLabelValues(method, code.String()).Observe(d.Seconds())
}

func (m *metrics) rotation(result string) { m.rotations.WithLabelValues(result).Inc() }
