// Package status serves the health and the metrics of keyvault-csi-sync over HTTP. Nothing that it serves is made from a value of a
// Secret.
package status

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/syncer"
)

// stuck is the time after which a loop that has not run counts as dead. It runs every 30 seconds, and waits for one request at a time.
const stuck = 5 * time.Minute

// Handler serves /healthz, /readyz and /metrics.
//
// /healthz fails if the loop is stuck, and not if the API server is away: a restart would change nothing. /readyz fails until each Secret
// has held the values of the volume once since the start.
func Handler(read func() syncer.Status, now func() time.Time, version string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, read(), version)
	})
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

// writeMetrics writes the metrics in the text format of Prometheus. Its client library would take 2 MB of the 20 that the program may take.
func writeMetrics(w io.Writer, s syncer.Status, version string) {
	gauge := func(name, help string) string {
		name = "keyvault_csi_sync_" + name
		_, _ = fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		return name
	}
	secrets := gauge("secrets", "Secrets of the configuration by their state.")
	for _, state := range syncer.States() {
		_, _ = fmt.Fprintf(w, "%s{state=%q} %d\n", secrets, string(state), s.Secrets[state])
	}
	one := func(name, help string, value float64) {
		_, _ = fmt.Fprintln(w, gauge(name, help), strconv.FormatFloat(value, 'g', -1, 64))
	}
	one("last_success_timestamp_seconds", "When a Secret was last written, or found right.", seconds(s.Success))
	one("version_timestamp_seconds", "When the values of the volume were fetched from the vault.", seconds(s.Version))
	broken := 0.0
	if s.ConfigBroken {
		broken = 1
	}
	one("config_broken", "1 while the configuration is not valid and the last valid one is in force.", broken)
	_, _ = fmt.Fprintf(w, "%s{version=%q} 1\n", gauge("build_info", "The version of keyvault-csi-sync."), version)
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / float64(time.Second)
}
