package vault

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// otherVault is the label of all vaults without their own label. noAnswer is the code of a request without an answer.
const (
	otherVault = "other"
	noAnswer   = "none"
)

// metrics counts requests. A pod can name any vault, so a vault gets its own label only while volumes use it (or are
// being mounted with it) and once it has answered 200. Its series are deleted with the last volume.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	mu     *sync.Mutex
	vaults map[string]*use
}

type use struct {
	users    int
	answered bool
}

func newMetrics() metrics {
	return metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_vault_requests_total",
			Help: "Requests to vaults by vault, kind of object and HTTP status (none: no answer).",
		}, []string{"vault", "kind", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyvault_csi_vault_request_seconds",
			Help: "Duration of requests to vaults up to the head of the answer.",
			// From a near private endpoint to the timeout of an attempt.
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"vault"}),
		mu:     &sync.Mutex{},
		vaults: map[string]*use{},
	}
}

func (m metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	return errors.Join(r.Register(m.requests), r.Register(m.seconds))
}

func (m metrics) use(vaults []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, vault := range vaults {
		known, ok := m.vaults[vault]
		if !ok {
			known = &use{}
			m.vaults[vault] = known
		}
		known.users++
	}
}

func (m metrics) release(vaults []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, vault := range vaults {
		known := m.vaults[vault]
		if known.users--; known.users > 0 {
			continue
		}
		delete(m.vaults, vault)
		m.requests.DeletePartialMatch(prometheus.Labels{"vault": vault})
		m.seconds.DeletePartialMatch(prometheus.Labels{"vault": vault})
	}
}

// request counts one request. resp is nil if there was no answer.
func (m metrics) request(vault string, req *http.Request, resp *http.Response, took time.Duration) {
	code := noAnswer
	if resp != nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.mu.Lock()
	defer m.mu.Unlock() // release must not run between the map access and the count
	label := otherVault
	if known, ok := m.vaults[vault]; ok {
		known.answered = known.answered || code == "200"
		if known.answered {
			label = vault
		}
	}
	m.requests.WithLabelValues(label, kindOf(req), code).Inc()
	m.seconds.WithLabelValues(label).Observe(took.Seconds())
}

// kindOf returns the kind of object that a request reads.
func kindOf(req *http.Request) string {
	if req.Header.Get("Authorization") == "" {
		return "challenge"
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	switch {
	case (kind == Secrets || kind == Certificates) && name == "":
		return "list"
	case kind == Secrets, kind == Certificates, kind == Keys:
		return strings.TrimSuffix(kind, "s")
	default:
		return "other"
	}
}
