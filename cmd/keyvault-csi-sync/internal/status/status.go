// Package status serves the health and the metrics of keyvault-csi-sync over HTTP. Nothing that it serves is made from a value of a
// Secret.
package status

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/syncer"
)

// stuck is the time after which a loop that has not run counts as dead. It runs every 30 seconds, and waits for one request at a time.
const stuck = 5 * time.Minute

// Handler serves /healthz, /readyz and /metrics.
//
// /healthz fails if the loop is stuck, and not if the API server is away: a restart would change nothing. /readyz fails until each Secret
// was written once.
func Handler(read func() syncer.Status, now func() time.Time, version string) http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&collector{read: read, version: version})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, now().Sub(read().Beat) < stuck, "the loop is stuck")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, read().Ready, "not every Secret was written yet; the log says why")
	})
	return mux
}

func answer(w http.ResponseWriter, ok bool, problem string) {
	if !ok {
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// collector makes the metrics of a status when they are read.
type collector struct {
	read    func() syncer.Status
	version string
}

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("keyvault_csi_sync_"+name, help, labels, nil)
}

// Describe sends nothing, which leaves the metrics unchecked: they are made in Collect only.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	status := c.read()
	gauge := func(value float64, d *prometheus.Desc, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	secrets := description("secrets", "Secrets of the configuration by their state.", "state")
	for _, state := range syncer.States() {
		gauge(float64(status.Secrets[state]), secrets, string(state))
	}
	gauge(seconds(status.Success), description("last_success_timestamp_seconds", "When a Secret was last written, or found right."))
	gauge(seconds(status.Version), description("version_timestamp_seconds", "When the values of the volume were fetched from the vault."))
	broken := 0.0
	if status.ConfigBroken {
		broken = 1
	}
	gauge(broken, description("config_broken", "1 while the configuration is not valid and the last valid one is in force."))
	gauge(1, description("build_info", "The version of keyvault-csi-sync.", "version"), c.version)
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / float64(time.Second)
}
