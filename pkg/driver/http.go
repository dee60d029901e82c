package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
)

// httpServer serves the probes of the kubelet, Prometheus, and kvcsi:
//
//   - /healthz: the sockets answer. If not, the process must be restarted.
//   - /readyz: also, if the driver registers itself, the kubelet has accepted it, and it is this program that answers. A policy
//     that cannot be used is reported, but the driver stays ready: it must serve and remove the volumes that exist.
//   - /metrics: the registry.
//   - /volumes: the volumes, for whoever may forward a port to the pod, see serveVolumes.
func (d *Driver) httpServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { respond(w, "ok", d.alive(r.Context())) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		text := "ok"
		if problem := d.config.Policy.Problem(); problem != nil {
			text += ", but " + oneLine(problem.Error())
		}
		respond(w, text, d.ready(r.Context()))
	})
	mux.Handle("GET /metrics", oneAtATime(promhttp.HandlerFor(d.config.Registry, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /volumes", d.serveVolumes)
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          klog.NewStandardLogger("WARNING"),
		ConnState:         new(connLimiter).track,
	}
}

// alive returns what a restart can repair.
func (d *Driver) alive(ctx context.Context) error {
	if err := d.sharedProbe(ctx); err != nil && !errors.Is(err, errNotOurs) {
		return err
	}
	return d.offered()
}

func (d *Driver) ready(ctx context.Context) error {
	if d.config.RegistrationSocket != "" {
		switch refusal := d.registration.Load(); {
		case refusal == nil:
			return errors.New("the kubelet has not registered the driver yet")
		case *refusal != "":
			return errors.New(*refusal)
		}
	}
	if err := d.offered(); err != nil {
		return err
	}
	return d.sharedProbe(ctx)
}

// sharedProbe is probe for HTTP. Requests at the same time share one, which takes half a millisecond of CPU: every pod of a cluster can send
// them.
func (d *Driver) sharedProbe(ctx context.Context) error {
	_, err, _ := d.probes.Do("", func() (any, error) { return nil, d.probe(context.WithoutCancel(ctx)) })
	return err
}

func respond(w http.ResponseWriter, text string, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = oneLine(err.Error())
	}
	_, _ = fmt.Fprintln(w, text)
}

// oneAtATime lets the handler make one answer at a time, and sends it when the handler has ended. Making one takes up to a megabyte, most of it
// for gzip, and every pod of a cluster can ask on [maxConns] connections and not read: the volumes of the node need that memory.
func oneAtATime(handler http.Handler) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		made := answer{ResponseWriter: w, code: http.StatusOK}
		func() {
			mu.Lock()
			defer mu.Unlock()
			handler.ServeHTTP(&made, r)
		}()
		w.WriteHeader(made.code)
		_, _ = w.Write(made.body.Bytes()) // an error means that the client is gone
	}
}

// answer keeps what a handler writes.
type answer struct {
	http.ResponseWriter // for the headers

	code int
	body bytes.Buffer
}

func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
