package cache

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcome is how a volume's request for an object was answered.
type Outcome string

// The outcomes.
const (
	Hit    Outcome = "hit"    // from memory, including a failure whose pause lasts
	Miss   Outcome = "miss"   // started a fetch
	Shared Outcome = "shared" // joined a fetch
	Stale  Outcome = "stale"  // the last known value, in an outage
	Late   Outcome = "late"   // from memory after its interval, because the vault limits the requests of the node

	Unchanged Outcome = "unchanged" // from memory, because a list shows that it is still current
)

type metrics struct {
	requests  *prometheus.CounterVec
	evictions prometheus.Counter
}

func newMetrics() metrics {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_cache_requests_total",
			Help: "Objects asked for by volumes, by how they were answered: from memory (hit), by a fetch (miss), " +
				"by a fetch in progress (shared), with the last known value in an outage (stale), with a value that is older than the " +
				"interval because the vault throttles (late), or from memory because a list shows no change (unchanged).",
		}, []string{"result"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyvault_csi_cache_evictions_total",
			Help: "Objects dropped because the cache was full.",
		}),
	}
	for _, outcome := range []Outcome{Hit, Miss, Shared, Stale, Late, Unchanged} {
		m.requests.WithLabelValues(string(outcome))
	}
	return m
}

func (m metrics) register(r prometheus.Registerer, size func() int) error {
	if r == nil {
		return nil
	}
	return errors.Join(r.Register(m.requests), r.Register(m.evictions), r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keyvault_csi_cache_bytes",
		Help: "Memory of the objects in the cache, approximately.",
	}, func() float64 { return float64(size()) })))
}

// Count counts a request of a volume after [Cache.Get].
func (c *Cache[V]) Count(o Outcome) { c.metrics.requests.WithLabelValues(string(o)).Inc() }
