package cache

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// refusedPause, failedPause and failedSpread are how long a failed fetch answers the next ones. The kubelet
	// retries from half a second on. A refusal may be repaired by hand, so its pause is short. After a failure of the
	// vault the pause is failedPause and a random part of failedSpread.
	refusedPause = 2 * time.Second
	failedPause  = 10 * time.Second
	failedSpread = 20 * time.Second
	// CallTime is how long after its interval a value may still be shared. The kubelet calls every 60 to 90 seconds,
	// after failures every 2m2s, and a call takes some time.
	CallTime = 150 * time.Second

	// LateTime is how long a value may still be used, and what a first mount has read is kept, while the vault limits the requests of
	// the node.
	LateTime = 2 * time.Hour

	defaultBytes = 8 << 20 // 320 secrets of the size that Key Vault allows, 4,200 of 1 KiB, 670 certificates
	entryBytes   = 640     // overhead of an entry, measured and rounded up
	sweepPause   = time.Minute
)

// Options of a cache.
type Options struct {
	MountMaxAge   time.Duration // maximum age of a value for a first mount
	LastKnownGood time.Duration // maximum age of a value for a first mount during an outage
	Bytes         int           // approximate limit of all values together; 0 means 8 MiB
	Now           func() time.Time
	After         func(time.Duration) <-chan time.Time // timer of that clock
	Random        func() float64                       // in [0, 1), to keep nodes apart; nil means math/rand
}

// Key is one object as read by one identity.
type Key struct {
	Identity                        any // comparable
	Vault, Interface, Name, Version string
}

// Value is the cached content of an answer.
type Value interface {
	comparable
	Size() int // approximate, in bytes
}

// Failure is why a fetch failed.
type Failure struct {
	Err     error
	Asked   string // name of the service that was asked: "the vault"
	Refused bool   // final until the configuration changes
	Absent  bool   // refused because the object does not exist, is disabled, or is not issued yet
	Bytes   int    // approximate size in memory

	Tenant      string // that issued the token; empty if there is none
	VaultTenant string // that the vault's challenge names; empty while unknown
}

// Result is the value or the failure of a fetch.
type Result[V Value] struct {
	Value   V
	At      time.Time // just before the request to the vault, or before a later list that shows the same, see [Demand.Listed]
	Read    time.Time // just before the request to the vault; [Cache.Get] and [Cache.Find] set it
	Tenant  string    // in which the identity was authorized
	Failure *Failure
}

// Demand is how fresh an object must be for a caller.
type Demand struct {
	Refresh  bool
	Interval time.Duration // of the volume
	Begun    time.Time     // in a first mount that has failed before: its first attempt; answers since then serve it, at any age
	Since    time.Time     // in a refresh: when the volume's newest value was requested; zero if not known
	Optional bool          // the volume accepts that the object is absent
	Listed   bool          // in a refresh: a value counts from the last list that shows it, see [Cache.Keep]

	Limited bool          // the vault limits the requests of the node: values stay for LateTime
	Late    time.Duration // a refresh also takes what is younger, although its interval is over

	// GoesOnFor is the namespace on whose account a fetch goes on when its callers have left, because it takes longer than their calls.
	// Empty: it ends with its last caller.
	GoesOnFor string

	// NotBefore excludes all answers that were requested before, also of pinned versions and in an outage, and those whose
	// time is in the future. Zero excludes none.
	NotBefore time.Time
}

// Cache is safe for concurrent use. It has one goroutine for each fetch and no other.
type Cache[V Value] struct {
	options Options
	metrics metrics

	mu       sync.Mutex // held for map access only, never while a caller waits
	entries  map[Key]*entry[V]
	recent   *list.List // of *entry, most recently used first
	bytes    int
	inflight map[Key]*inflight[V]
	goingOn  goingOn
	swept    time.Time
}

type entry[V Value] struct {
	key     Key
	element *list.Element
	used    time.Time
	bytes   int

	interval time.Duration // the longest of the volumes that use it
	departed bool          // the last of these volumes is gone
	limited  bool          // their vault limits the requests of the node
	lister   time.Time     // when a volume that lists has last asked for it

	value  V         // zero if nothing is known, or the last answer was a refusal
	read   time.Time // when value was requested
	listed time.Time // when the last list that showed it was requested; not before read
	tenant string
	lag    float64 // random, in [0, 1), for each fetch: see Due

	absence *Failure  // that the object is absent; nil if it was not, or is not known
	absent  time.Time // when that was requested

	failure *Failure // of the last fetch; nil when it succeeded
	tried   time.Time
	paused  time.Time // until then failure is the answer
}

// has reports whether a value is known. A nil entry has none.
func (e *entry[V]) has() bool {
	var none V
	return e != nil && e.value != none
}

// New makes an empty cache. It registers its metrics if r is not nil.
func New[V Value](o Options, r prometheus.Registerer) (*Cache[V], error) {
	if o.Bytes == 0 {
		o.Bytes = defaultBytes
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	c := &Cache[V]{
		options: o, metrics: newMetrics(),
		entries: map[Key]*entry[V]{}, recent: list.New(), inflight: map[Key]*inflight[V]{}, goingOn: goingOn{},
	}
	return c, c.metrics.register(r, c.Size)
}

// Find returns a value, or a failure whose pause is not over, that satisfies the demand without a fetch.
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
	c.use(e, d, now)
	switch {
	case c.serves(e, d, now):
		return e.result(e.current(d)), true
	case c.lacks(e, d, now):
		return e.lack(), true
	case e.failure != nil && now.Before(e.paused):
		return Result[V]{At: e.tried, Read: e.tried, Failure: e.failure}, true
	default:
		return Result[V]{}, false
	}
}

// serves reports whether the value is fresh enough.
func (c *Cache[V]) serves(e *entry[V], d Demand, now time.Time) bool {
	switch {
	case !e.has() || d.excludes(e.read, now):
		return false
	case !d.Refresh:
		return younger(now.Sub(e.read), c.options.MountMaxAge) || d.tried(e.read, now)
	case e.key.Version != "":
		return true
	default:
		return d.fresh(e.current(d), now) || younger(now.Sub(e.current(d)), d.Late)
	}
}

// lacks reports whether the known absence of an optional object is fresh enough. A first mount asks again, unless it would never
// end because the vault limits the requests of the node.
func (c *Cache[V]) lacks(e *entry[V], d Demand, now time.Time) bool {
	switch {
	case !d.Optional || e.absence == nil || d.excludes(e.absent, now):
		return false
	case !d.Refresh:
		return d.Limited && d.tried(e.absent, now)
	default:
		return d.fresh(e.absent, now) || younger(now.Sub(e.absent), d.Late)
	}
}

// fresh reports whether an answer of that time is young enough for a refresh, and newer than what the volume has. If only
// NotBefore makes the volumes of an identity due, their next calls share the answer.
func (d Demand) fresh(at, now time.Time) bool {
	limit := d.Interval
	if limit == 0 && !d.NotBefore.IsZero() {
		limit = CallTime
	}
	return at.After(d.Since) && younger(now.Sub(at), limit) && !d.excludes(at, now)
}

// tried reports whether an answer of that time is from the first attempt of the mount or later. A mount that ends at its
// timeout, because it has many objects or its vault throttles, would otherwise read all of them again, and never end.
func (d Demand) tried(at, now time.Time) bool {
	return !d.Begun.IsZero() && !at.Before(d.Begun) && !at.After(now)
}

// excludes applies NotBefore to an answer of that time.
func (d Demand) excludes(at, now time.Time) bool {
	return !d.NotBefore.IsZero() && (at.Before(d.NotBefore) || at.After(now))
}

func younger(age, limit time.Duration) bool { return age >= 0 && age < limit }

// Paused returns the failure of an object while its pause lasts, or nil.
func (c *Cache[V]) Paused(key Key) *Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok && c.options.Now().Before(e.paused) {
		return e.failure
	}
	return nil
}

// Due returns how long a refresh waits before it fetches an object again. An object is due at a random time up to
// spread after its interval, so that nodes which began together do not stay together. The time is the same for all
// volumes of this node, so that the first one fetches for all.
func (c *Cache[V]) Due(key Key, d Demand, spread time.Duration) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.listed.IsZero() {
		return 0
	}
	over := c.options.Now().Sub(e.current(d)) - d.Interval
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
		e = &entry[V]{key: key}
		e.element = c.recent.PushFront(e)
		c.entries[key] = e
		c.count(e)
	}
	c.use(e, d, now)
	if before := latest(e.read, e.tried); r.At.Before(before) && !before.After(now) {
		return // a newer result is known
	}
	e.failure, e.tried, e.paused = r.Failure, r.At, time.Time{}
	switch {
	case r.Failure == nil:
		e.value, e.absence = r.Value, nil
		e.read, e.listed, e.tenant = r.At, r.At, r.Tenant
		e.lag = c.options.Random()
	case r.Failure.Refused:
		e.paused = now.Add(refusedPause)
		c.clear(e)
		if r.Failure.Absent {
			e.absence, e.absent = r.Failure, r.At
		}
	default:
		e.paused = now.Add(failedPause + time.Duration(c.options.Random()*float64(failedSpread)))
	}
	c.count(e)
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
