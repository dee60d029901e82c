package driver

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestBadHTTPAddressEndsRunAtOnce(t *testing.T) {
	t.Parallel()
	c := testConfig(shortDir(t), newFakes())
	c.HTTPAddress = "127.0.0.1:http-but-wrong"
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(d.Run(silent(t))); !strings.HasPrefix(got, "listening for HTTP: ") {
		t.Errorf("Run = %q", got)
	}
	if _, err := os.Lstat(d.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the CSI socket was left behind: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes(), func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if got := get(t, h.http+path, http.StatusOK); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/", "/healthz/", "/metrics/x", "/debug/pprof/"} {
		get(t, h.http+path, http.StatusNotFound)
	}
	metrics := get(t, h.http+"/metrics", http.StatusOK)
	for _, want := range []string{
		`keyvault_csi_operations_seconds_count{code="OK",method="NodePublishVolume"} 1`,
		`keyvault_csi_build_info{go="go1.`, `version="v1.2.3"} 1`,
		`keyvault_csi_rotations_total{result="failed"} 0`, "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	// A driver that the kubelet cannot reach is not healthy.
	if err := os.Remove(h.driver.socket); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := get(t, h.http+path, http.StatusServiceUnavailable); !strings.Contains(got, "probing "+h.driver.socket) {
			t.Errorf("%s = %q, want the reason", path, got)
		}
	}
}

// Requests at the same time share one probe of the sockets, which takes half a millisecond of CPU: every pod of a cluster can send them.
func TestProbesAreShared(t *testing.T) {
	t.Parallel()
	h, e := startExtra(t)
	const requests = 50
	asked, release := make(chan struct{}, requests), make(chan struct{})
	e.probe = func() { asked <- struct{}{}; <-release }
	handler := h.driver.httpServer().Handler
	var started, answered sync.WaitGroup
	for range requests {
		started.Add(1)
		answered.Go(func() {
			started.Done()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", http.NoBody))
			if w.Code != http.StatusOK {
				t.Errorf("/healthz = %d %s", w.Code, w.Body)
			}
		})
	}
	started.Wait()
	<-asked
	close(release)
	answered.Wait()
	if probes := 1 + len(asked); probes > requests/2 {
		t.Errorf("%d probes for %d requests", probes, requests)
	}
}

// A policy that cannot be used is reported, and the driver stays ready.
func TestReadyReportsThePolicy(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.problem = errors.New("the policy file /x cannot be used: line 1:\nit is; everything is refused until it can")
	h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	const want = "ok, but the policy file /x cannot be used: line 1: it is; everything is refused until it can\n"
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": want} {
		if got := get(t, h.http+path, http.StatusOK); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(h.config.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n, err := testutil.GatherAndCount(h.config.Registry, "keyvault_csi_operations_seconds", "keyvault_csi_build_info"); err != nil || n != 2 {
		t.Errorf("%d series, %v; want 2", n, err)
	}
	if _, err := New(h.config); err == nil || !strings.HasPrefix(err.Error(), "registering metrics: ") {
		t.Errorf("a second driver on the same registry = %v, want an error", err)
	}
}

// A client that does not read its answer occupies the memory of the answer, but not that of the handler, which uses 700
// KB for gzip alone.
func TestMetricsAreMadeBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())
	handler := h.driver.httpServer().Handler
	for _, encoding := range []string{"gzip", "identity"} {
		w := &sender{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		r.Header.Set("Accept-Encoding", encoding)
		handler.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Encoding"); w.Code != http.StatusOK || w.Body.Len() == 0 || strings.TrimPrefix(encoding, "identity") != got {
			t.Errorf("%s: %d, %q, %d bytes", encoding, w.Code, got, w.Body.Len())
		}
		if w.inHandler {
			t.Errorf("%s: the handler waits for the client", encoding)
		}
	}
}

// sender notes whether the handler of the metrics waits for it.
type sender struct {
	*httptest.ResponseRecorder

	inHandler bool
}

func (s *sender) Write(p []byte) (int, error) {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		s.inHandler = s.inHandler || strings.Contains(f.Function, "/promhttp.")
	}
	return s.ResponseRecorder.Write(p)
}
