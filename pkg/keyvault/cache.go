package keyvault

import (
	"container/list"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
	"unique"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// refusedPause and failedPause are how long the failure of a fetch answers for the next: the kubelet tries again
	// from half a second on. A refusal can be mended by hand while somebody watches; a vault that fails is left alone
	// for failedPause and a random part of as much again.
	refusedPause = 2 * time.Second
	failedPause  = 10 * time.Second
	failedSpread = 20 * time.Second
	// callTime is how long a call may last in which an object has been read and its volume does not hold it yet.
	callTime = flightTimeout
	// defaultCacheBytes bounds all values together: 160 secrets of the size that Key Vault allows, 2,700 of 1 KiB. What does
	// not fit is asked for more often than it would have to be.
	defaultCacheBytes = 4 << 20
	// entryBytes is what an entry costs beside its values, measured and rounded up.
	entryBytes = 512
)

// entryKey is one object as one identity sees it. The tenant of the identity is the one that the request names; empty
// stands for that of the vault.
type entryKey struct {
	identity unique.Handle[credentialKey] // which are few, and long
	readKey
}

// cache holds what the vaults said last, one entry for each object and identity, and the fetches that are under way.
// What one identity was given is never shown to another: whoever asks with the same key could log in as the same.
type cache struct {
	now     func() time.Time
	mounts  time.Duration // how old a value may be that a first mount is served with, in an outage or not
	limit   int           // of bytes
	evicted func()        // an entry, for want of room

	mu      sync.Mutex // held for a look into the maps, never while somebody waits
	entries map[entryKey]*entry
	recent  *list.List // of *entry, the one used last in front
	bytes   int
	flights map[entryKey]*flight
	volumes map[string]holding                              // by volume
	owners  map[unique.Handle[credentialKey]]map[podKey]int // of how many volumes
	held    int                                             // objects in volumes
	swept   time.Time
}

func newCache(o Options, evicted func()) *cache {
	return &cache{
		now: o.Now, mounts: max(o.MountMaxAge, o.LastKnownGood), limit: o.CacheBytes, evicted: evicted,
		entries: map[entryKey]*entry{}, recent: list.New(), flights: map[entryKey]*flight{}, volumes: map[string]holding{},
		owners: map[unique.Handle[credentialKey]]map[podKey]int{},
	}
}

// entry is what is known of one object.
type entry struct {
	key   entryKey
	place *list.Element
	used  time.Time
	bytes int

	held     int           // by so many volumes
	current  int           // of these: with what was asked for at the time at
	interval time.Duration // the longest of theirs
	more     bool          // the value is for more volumes, it is not known which

	tenant string // in which the identity was given got

	got *got      // nil when nothing is known, the last answer was a refusal, or nobody can be served with it any more
	at  time.Time // when got was asked for, be it forgotten or not; zero after a refusal
	lag float64   // chance of this fetch, in [0, 1): see due

	failed *failure // of the last fetch; nil when it succeeded
	tried  time.Time
	paused time.Time // until then failed is the answer
}

// failure is why a fetch failed, in nobody's words: each who waits explains it with the object that it asked for.
type failure struct {
	err            error  // see reduced
	waited         string // who was asked
	tenant, vaults string // as in matter
}

// result is how a fetch ended. Exactly one of got and failed is set.
type result struct {
	entry  *entry // nil if the fetch was given up
	got    *got
	at     time.Time
	tenant string // of the login
	failed *failure
}

// errNoLogin: the SDK accepts the identity's parameters in no way.
var errNoLogin = errors.New("no login can be made")

// refusal tells an answer that is final, from whomever it came, from a service that could give none.
func (f *failure) refusal() bool {
	var said *answer
	var missing *unreached
	switch {
	case errors.As(f.err, &said) && said.entra:
		return !errors.Is(entraSentinel(said), volume.ErrUnavailable)
	case errors.As(f.err, &said):
		return !errors.Is(vaultSentinel(said), volume.ErrUnavailable)
	case errors.As(f.err, &missing), errors.Is(f.err, errMalformedChallenge), errors.Is(f.err, errStrange), errors.Is(f.err, errPanic),
		errors.Is(f.err, errAnotherAnswers), errors.Is(f.err, errLongList),
		errors.Is(f.err, context.DeadlineExceeded):
		return false
	default:
		return true
	}
}

// ofIdentity says that whoever asks the vault for anything as this identity is refused.
func (f *failure) ofIdentity() bool {
	var said *answer
	return f.refusal() && (!errors.As(f.err, &said) || said.entra || said.status == http.StatusUnauthorized)
}

// absent says that there is no such object, or that it is disabled.
func (f *failure) absent() bool {
	var said *answer
	return errors.As(f.err, &said) && !said.entra && (said.absent() || said.disabled())
}

// demand is how fresh a request wants its objects.
type demand struct {
	refresh bool
	maxAge  time.Duration
	held    map[*entry]time.Time // of a refresh: the fetches that the volume has already
}

// serves says whether the entry is good enough. A volume that has come of age is not served with what it has already,
// whatever the clocks say: a refresh is for news.
func (d demand) serves(e *entry, now time.Time) bool {
	switch {
	case e.got == nil:
		return false
	case d.refresh && e.key.version != "":
		return true // it cannot have changed
	default:
		return !e.at.Equal(d.held[e]) && younger(now.Sub(e.at), d.maxAge)
	}
}

// lacks says the same of an object that is known not to be there, to a volume that can do without it. A first mount
// always looks for itself.
func (d demand) lacks(e *entry, now time.Time) bool {
	return d.refresh && e.failed != nil && e.failed.absent() && !e.tried.Equal(d.held[e]) && younger(now.Sub(e.tried), d.maxAge)
}

func younger(age, limit time.Duration) bool { return age >= 0 && age < limit }

// find gives what answers the demand without a request: a value, or a failure that has not had its time.
func (c *cache) find(key entryKey, d demand, optional bool) (result, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known(key, d, optional)
}

// known is find for those who hold c.mu.
func (c *cache) known(key entryKey, d demand, optional bool) (result, bool) {
	e, ok := c.entries[key]
	if !ok {
		return result{}, false
	}
	now := c.now()
	e.used = now
	c.recent.MoveToFront(e.place)
	switch {
	case d.serves(e, now):
		return result{entry: e, got: e.got, at: e.at}, true
	case e.failed != nil && now.Before(e.paused), optional && d.lacks(e, now):
		return result{entry: e, at: e.tried, failed: e.failed}, true
	default:
		return result{}, false
	}
}

// lastKnown gives the last value of an object that is not older than maxAge.
func (c *cache) lastKnown(key entryKey, maxAge time.Duration) (result, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.got == nil || !younger(c.now().Sub(e.at), maxAge) {
		return result{}, false
	}
	return result{entry: e, got: e.got, at: e.at}, true
}

// due is when an object that volumes hold beyond the interval is to be fetched again: up to spread later, by the chance
// of the last fetch, so that nodes which began together do not go on together. For all volumes of this node it is the
// same moment; the first to come then asks for all. Zero when there is nothing to wait for.
func (c *cache) due(key entryKey, interval, spread time.Duration) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.at.IsZero() {
		return 0
	}
	over := c.now().Sub(e.at) - interval
	if over < 0 {
		return 0
	}
	return max(0, time.Duration(e.lag*float64(spread))-over)
}

// store keeps the result of a fetch for d and gives it with its entry. A refusal takes away what was known before.
func (c *cache) store(key entryKey, d demand, r result) result {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	e, ok := c.entries[key]
	if !ok {
		e = &entry{key: key, bytes: entryBytes}
		e.place = c.recent.PushFront(e)
		c.entries[key] = e
		c.bytes += e.bytes
	}
	r.entry, e.used = e, now
	if before := maxTime(e.at, e.tried); r.at.Before(before) && !before.After(now) {
		return r // somebody has asked again since
	}
	e.failed, e.tried, e.paused = r.failed, r.at, time.Time{}
	switch {
	case r.failed == nil:
		c.fill(e, r.got)
		e.tenant = r.tenant
		e.asked(r.at, d)
		e.lag = rand.Float64() //nolint:gosec // G404: it only keeps nodes apart
	case r.failed.refusal():
		e.paused = now.Add(refusedPause)
		c.revoke(e)
		if r.failed.ofIdentity() {
			c.refuse(key, r.failed)
		}
	default:
		e.paused = now.Add(failedPause + someOf(failedSpread))
	}
	if now.Sub(c.swept).Abs() >= sweepPause {
		c.sweep(now)
	}
	for c.bytes > c.limit && c.recent.Len() > 1 {
		c.drop(c.recent.Back().Value.(*entry))
		c.evicted()
	}
	return r
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fill sets an entry's value and counts its bytes. The caller holds c.mu.
func (c *cache) fill(e *entry, g *got) {
	e.got = g
	c.bytes += entryBytes + g.bytes() - e.bytes
	e.bytes = entryBytes + g.bytes()
}

// drop forgets an entry. Volumes may hold it still: what they hold is the time of its fetch. The caller holds c.mu.
func (c *cache) drop(e *entry) {
	c.bytes -= e.bytes
	c.recent.Remove(e.place)
	delete(c.entries, e.key)
	e.got, e.failed = nil, nil
}

// size is the ceiling's measure.
func (c *cache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
