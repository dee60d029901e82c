package cache

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// refusedPause, failedPause and failedSpread are how long the failure of a fetch answers for the next: the kubelet tries again from half
	// a second on. A refusal can be repaired by hand while somebody watches; a vault that fails is left alone for failedPause
	// and a random part of failedSpread.
	refusedPause = 2 * time.Second
	failedPause  = 10 * time.Second
	failedSpread = 20 * time.Second
	// CallTime is how long after its interval a value may still be shared: the kubelet calls every 60 to 90 seconds, after
	// failures every 2m2s, and a call takes some time.
	CallTime = 150 * time.Second

	defaultBytes = 8 << 20 // 320 secrets of the size that Key Vault allows, 5,400 of 1 KiB, 700 certificates
	entryBytes   = 512     // what an entry costs beside its value, measured and rounded up
	sweepPause   = time.Minute
)

// Options of a cache.
type Options struct {
	MountMaxAge   time.Duration // how old a value may be that a first mount takes
	LastKnownGood time.Duration // how old a value may be that a first mount takes while nobody answers
	Bytes         int           // bound of all values together, about; 0 means 8 MiB
	Now           func() time.Time
	After         func(time.Duration) <-chan time.Time // the timer of that clock
}

// Key is one object as one identity sees it.
type Key struct {
	Identity                        any // comparable
	Vault, Interface, Name, Version string
}

// Value is what is kept of an answer.
type Value interface {
	comparable
	Size() int // about, in bytes
}

// Failure is why a fetch failed.
type Failure struct {
	Err     error
	Asked   string // the service that was asked: "the vault"
	Refused bool   // the answer is final, until somebody changes something
	Absent  bool   // refused, because there is no such object, or it is disabled
}

// Result is how a fetch ended: a value or a failure.
type Result[V Value] struct {
	Value   V
	At      time.Time // just before the vault was asked
	Tenant  string    // in which the identity was given the value
	Failure *Failure
}

// Demand is how fresh a caller wants an object.
type Demand struct {
	Refresh  bool
	Interval time.Duration // of the volume
	Since    time.Time     // of a refresh: when the newest value that the volume has was asked for; zero if not known
	Optional bool          // the volume can do without the object
}

// Cache is safe for concurrent use. It has no goroutine of its own but one for each fetch.
type Cache[V Value] struct {
	options Options
	metrics metrics

	mu       sync.Mutex // held for a look into the maps, never while somebody waits
	entries  map[Key]*entry[V]
	recent   *list.List // of *entry, the one used last in front
	bytes    int
	inflight map[Key]*inflight[V]
	swept    time.Time
}

type entry[V Value] struct {
	key     Key
	element *list.Element
	used    time.Time
	bytes   int

	interval time.Duration // the longest of the volumes that asked for it
	departed bool          // and the last of them is gone

	value  V         // the zero value: nothing is known, or the last answer was a refusal
	at     time.Time // when value was asked for
	tenant string
	lag    float64 // chance of this fetch, in [0, 1): see Due

	failure *Failure // of the last fetch; nil when it succeeded
	tried   time.Time
	paused  time.Time // until then failure is the answer
}

// New makes an empty cache that registers its metrics, if there is a registerer.
func New[V Value](o Options, r prometheus.Registerer) (*Cache[V], error) {
	if o.Bytes == 0 {
		o.Bytes = defaultBytes
	}
	c := &Cache[V]{
		options: o, metrics: newMetrics(),
		entries: map[Key]*entry[V]{}, recent: list.New(), inflight: map[Key]*inflight[V]{},
	}
	return c, c.metrics.register(r, c.Size)
}

// Find gives what answers the demand without a fetch: a value, or a failure that has not had its time.
func (c *Cache[V]) Find(key Key, d Demand) (Result[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(key, d)
}

func (c *Cache[V]) find(key Key, d Demand) (Result[V], bool) {
	e, ok := c.entries[key]
	if !ok {
		return Result[V]{}, false
	}
	now := c.options.Now()
	e.used, e.interval, e.departed = now, max(e.interval, d.Interval), false
	c.recent.MoveToFront(e.element)
	switch {
	case c.serves(e, d, now):
		return Result[V]{Value: e.value, At: e.at, Tenant: e.tenant}, true
	case e.failure != nil && (now.Before(e.paused) || c.lacks(e, d, now)):
		return Result[V]{At: e.tried, Failure: e.failure}, true
	default:
		return Result[V]{}, false
	}
}

// serves says whether the value is fresh enough.
func (c *Cache[V]) serves(e *entry[V], d Demand, now time.Time) bool {
	var none V
	switch {
	case e.value == none:
		return false
	case !d.Refresh:
		return younger(now.Sub(e.at), c.options.MountMaxAge)
	case e.key.Version != "":
		return true
	default:
		return d.fresh(e.at, now)
	}
}

// lacks says the same of the absence of an object that the volume can do without. A first mount always looks for itself.
func (c *Cache[V]) lacks(e *entry[V], d Demand, now time.Time) bool {
	return d.Optional && d.Refresh && e.failure.Absent && d.fresh(e.tried, now)
}

// fresh says whether an answer of that time is young enough for a refresh, and not the one that the volume has.
func (d Demand) fresh(at, now time.Time) bool {
	return at.After(d.Since) && younger(now.Sub(at), d.Interval)
}

func younger(age, limit time.Duration) bool { return age >= 0 && age < limit }

// Paused gives the failure of an object that has not had its time; nil if there is none.
func (c *Cache[V]) Paused(key Key) *Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok && c.options.Now().Before(e.paused) {
		return e.failure
	}
	return nil
}

// LastKnown gives the last value of an object, if it may be used while nobody answers.
func (c *Cache[V]) LastKnown(key Key) (Result[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var none V
	e, ok := c.entries[key]
	if !ok || e.value == none || !younger(c.options.Now().Sub(e.at), c.options.LastKnownGood) {
		return Result[V]{}, false
	}
	return Result[V]{Value: e.value, At: e.at, Tenant: e.tenant}, true
}

// Last gives the last value whatever its age, to compare the next one with.
func (c *Cache[V]) Last(key Key) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var none V
	if e, known := c.entries[key]; known {
		value = e.value
	}
	return value, value != none
}

// Due is how long a refresh waits before it fetches an object again: up to spread after its interval, by the chance of
// the last fetch, so that nodes which began together do not stay together. For all volumes of this node it is the same
// moment; the first to come then fetches for all.
func (c *Cache[V]) Due(key Key, interval, spread time.Duration) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.at.IsZero() {
		return 0
	}
	over := c.options.Now().Sub(e.at) - interval
	if over < 0 {
		return 0
	}
	return max(0, time.Duration(e.lag*float64(spread))-over)
}

// Store keeps the result of a fetch for a demand.
func (c *Cache[V]) Store(key Key, d Demand, r Result[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	e, ok := c.entries[key]
	if !ok {
		e = &entry[V]{key: key, bytes: entryBytes}
		e.element = c.recent.PushFront(e)
		c.entries[key] = e
		c.bytes += e.bytes
	}
	e.used, e.interval, e.departed = now, max(e.interval, d.Interval), false
	c.recent.MoveToFront(e.element)
	if before := latest(e.at, e.tried); r.At.Before(before) && !before.After(now) {
		return // somebody has asked again since
	}
	e.failure, e.tried, e.paused = r.Failure, r.At, time.Time{}
	switch {
	case r.Failure == nil:
		c.fill(e, r.Value)
		e.at, e.tenant = r.At, r.Tenant
		e.lag = rand.Float64() //nolint:gosec // G404: it only keeps nodes apart
	case r.Failure.Refused:
		e.paused = now.Add(refusedPause)
		c.clear(e)
	default:
		e.paused = now.Add(failedPause + rand.N(failedSpread)) //nolint:gosec // G404: as above
	}
	if now.Sub(c.swept).Abs() >= sweepPause {
		c.sweep(now)
	}
	for c.bytes > c.options.Bytes && c.recent.Len() > 1 {
		c.drop(c.recent.Back().Value.(*entry[V]))
		c.metrics.evictions.Inc()
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
