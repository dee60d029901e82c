package cache

import "time"

// FullRead is how old a value may be while lists show that it is current. Then it is read again, in case the lists are wrong.
// Each value has a random time of its own, up to a quarter less, so that they are not all read together.
const FullRead = 6 * time.Hour

// current returns when the value was last known to be the vault's, for a demand. Only a refresh that wants it counts from a
// list: a first mount also finds out whether the identity may still read the object.
func (e *entry[V]) current(d Demand) time.Time {
	if d.Refresh && d.Listed {
		return e.listed
	}
	return e.read
}

func (e *entry[V]) result(at time.Time) Result[V] {
	return Result[V]{Value: e.value, At: at, Read: e.read, Tenant: e.tenant}
}

// Held returns the value of an object that a list may show to be current. There is none if the object must be read again: no
// value is known, the demand excludes it, or it was read too long ago, see [FullRead].
func (c *Cache[V]) Held(key Key, d Demand) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, now := c.entries[key], c.options.Now()
	if !e.has() || d.excludes(e.read, now) || !younger(now.Sub(e.read), e.fullRead()) {
		return value, false
	}
	return e.value, true
}

func (e *entry[V]) fullRead() time.Duration {
	return FullRead - time.Duration(e.lag*float64(FullRead/4))
}

// Keep records that a list, which was requested at that time, shows that a value is current, and answers the demand with it.
// ok is false if the value has changed since [Cache.Held], or does not satisfy the demand.
func (c *Cache[V]) Keep(key Key, d Demand, value V, at time.Time) (r Result[V], ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, known := c.entries[key]
	if !known || e.value != value {
		return Result[V]{}, false
	}
	e.listed = latest(e.listed, at)
	r, ok = c.find(key, d)
	return r, ok && r.Failure == nil
}

// Rotating counts the matching objects that volumes with [Demand.Listed] refresh at least once in each interval. Objects without
// a value and pinned versions do not count.
func (c *Cache[V]) Rotating(interval time.Duration, match func(Key) bool) (count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	for key, e := range c.entries {
		rotates := e.interval > 0 && e.interval <= interval && younger(now.Sub(e.lister), e.interval+CallTime)
		if rotates && key.Version == "" && e.has() && match(key) {
			count++
		}
	}
	return count
}
