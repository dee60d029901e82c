package keyvault

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What became of the wish for an object.
const (
	cacheHit    = "hit"    // answered from memory, be it with a failure that is still young
	cacheMiss   = "miss"   // a fetch began
	cacheShared = "shared" // a fetch was under way
	cacheStale  = "stale"  // the vault could not be reached: the last known value
)

// otherVault is the label of all vaults that have none of their own.
const otherVault = "other"

// noAnswer is the code of a request that nobody answered.
const noAnswer = "none"

// metrics counts what is asked of vaults and authorities. A pod can name any vault, so a vault is a label of its own
// only while volumes use it (those that are being mounted included) and once it has answered 200; its series go with
// the last volume.
type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	tokens    *prometheus.CounterVec
	cache     *prometheus.CounterVec
	evictions prometheus.Counter

	mu     sync.Mutex
	vaults map[string]*vaultUse
}

type vaultUse struct {
	users    int
	answered bool
}

func newMetrics() *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_vault_requests_total",
			Help: "Requests to vaults by vault, kind of object and HTTP status (none: no answer).",
		}, []string{"vault", "kind", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyvault_csi_vault_request_seconds",
			Help: "Duration of requests to vaults up to the head of the answer.",
			// From a private endpoint next door to the end of an attempt.
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"vault"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_token_requests_total",
			Help: "Logins by kind of identity and HTTP status of the refusal (200: a token; none: no answer).",
		}, []string{"identity", "code"}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_cache_requests_total",
			Help: "Objects asked for by volumes, by how they were answered: from memory (hit), by a fetch (miss), " +
				"by a fetch under way (shared), or with the last known value in an outage (stale).",
		}, []string{"result"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyvault_csi_cache_evictions_total",
			Help: "Objects dropped because the cache was full.",
		}),
		vaults: map[string]*vaultUse{},
	}
	for _, result := range []string{cacheHit, cacheMiss, cacheShared, cacheStale} {
		m.cache.WithLabelValues(result)
	}
	return m
}

// register shows the metrics of the client.
func (c *Client) register(r prometheus.Registerer) error {
	all := []prometheus.Collector{
		c.metrics.requests, c.metrics.seconds, c.metrics.tokens, c.metrics.cache, c.metrics.evictions,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "keyvault_csi_cache_bytes",
			Help: "Memory that the objects in the cache take, about.",
		}, func() float64 { return float64(c.cache.size()) }),
		&expiry{
			cache: c.cache,
			end: prometheus.NewDesc("keyvault_csi_certificate_expiry_timestamp_seconds",
				"End of the validity of the certificates that volumes hold; of the 200 that end first.", []string{"vault", "name"}, nil),
			count: prometheus.NewDesc("keyvault_csi_certificates", "Certificates that volumes hold.", nil, nil),
		},
	}
	for _, collector := range all {
		if err := r.Register(collector); err != nil {
			return err
		}
	}
	return nil
}

// use makes vaults ones that are used, until they are released as often.
func (m *metrics) use(vaults []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, vault := range vaults {
		known, ok := m.vaults[vault]
		if !ok {
			known = &vaultUse{}
			m.vaults[vault] = known
		}
		known.users++
	}
}

func (m *metrics) release(vaults []string) {
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

// request counts one request to a vault. resp is nil when nobody answered.
func (m *metrics) request(vault string, req *http.Request, resp *http.Response, took time.Duration) {
	code := noAnswer
	if resp != nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.mu.Lock()
	defer m.mu.Unlock() // a series must not come back behind the back of release
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

// kindOf names what a request asks for.
func kindOf(req *http.Request) string {
	if req.Header.Get("Authorization") == "" {
		return "challenge"
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	switch {
	case kind == "secrets" && name == "":
		return "list"
	case kind == "secrets":
		return "secret"
	case kind == "certificates":
		return "certificate"
	case kind == "keys":
		return "key"
	default:
		return "other"
	}
}

func (m *metrics) asked(result string) { m.cache.WithLabelValues(result).Inc() }

// login counts one attempt to get a token. err is reduced.
func (m *metrics) login(kind volume.IdentityKind, err error) {
	code := noAnswer
	switch said, ok := err.(*answer); { //nolint:errorlint // reduced errors are not wrapped
	case err == nil:
		code = "200"
	case ok:
		code = strconv.Itoa(said.status)
	}
	m.tokens.WithLabelValues(string(kind), code).Inc()
}

// maxExpiries bounds the series of certificates: pods choose how many there are.
const maxExpiries = 200

// expiry shows the certificates that volumes hold now; that a vault answered 200 goes without saying.
type expiry struct {
	cache      *cache
	end, count *prometheus.Desc
}

func (e *expiry) Describe(descs chan<- *prometheus.Desc) {
	descs <- e.end
	descs <- e.count
}

func (e *expiry) Collect(metrics chan<- prometheus.Metric) {
	all := e.cache.certificates()
	metrics <- prometheus.MustNewConstMetric(e.count, prometheus.GaugeValue, float64(len(all)))
	for _, c := range soonest(all) {
		metrics <- prometheus.MustNewConstMetric(e.end, prometheus.GaugeValue, float64(c.notAfter.Unix()), c.vault, c.name)
	}
}
