package driver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
)

// httpServer serves what a kubelet's probes and a Prometheus ask:
//
//   - /healthz: the CSI socket answers a Probe. Anything else deserves a restart.
//   - /readyz: and, if the driver registers itself, the kubelet has accepted it: pods can have volumes. A policy that
//     cannot be used is told, and no reason to be unready: volumes that are there must be served and removed.
//   - /metrics: the registry.
func (d *Driver) httpServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", answer(d.probe, nil))
	mux.HandleFunc("GET /readyz", answer(d.ready, d.config.Policy.Problem))
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.config.Registry, promhttp.HandlerOpts{}))
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          klog.NewStandardLogger("WARNING"),
	}
}

func (d *Driver) ready(ctx context.Context) error {
	if d.config.RegistrationSocket != "" {
		switch said := d.registration.Load(); {
		case said == nil:
			return errors.New("the kubelet has not registered the driver yet")
		case said.refused != "":
			return errors.New(said.refused)
		}
	}
	return d.probe(ctx)
}

// answer makes a check a handler: 200 and "ok", with what the remark has to say if there is one, or 503 and the reason.
func answer(check func(context.Context) error, remark func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, status := "ok", http.StatusOK
		if remark != nil {
			if what := remark(); what != nil {
				text += ", but " + oneLine(what.Error())
			}
		}
		if err := check(r.Context()); err != nil {
			text, status = oneLine(err.Error()), http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, text)
	}
}
