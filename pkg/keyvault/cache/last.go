package cache

import "time"

// LastKnown returns the last value of an object, or that an optional one is absent, if the demand may be satisfied with it in an outage.
func (c *Cache[V]) LastKnown(key Key, d Demand) (Result[V], bool) {
	return c.last(key, d, c.options.LastKnownGood)
}

// Late returns the last value of an object, or that an optional one is absent, for a refresh that the vault's limit leaves no
// request for now.
func (c *Cache[V]) Late(key Key, d Demand) (Result[V], bool) {
	return c.last(key, d, LateTime)
}

func (c *Cache[V]) last(key Key, d Demand, limit time.Duration) (Result[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, now := c.entries[key], c.options.Now()
	usable := func(read, current time.Time) bool { return younger(now.Sub(current), limit) && !d.excludes(read, now) }
	switch {
	case e.has():
		return e.result(e.listed), usable(e.read, e.listed)
	case e != nil && d.Optional && e.absence != nil:
		return e.lack(), usable(e.absent, e.absent)
	default:
		return Result[V]{}, false
	}
}

// Last returns the last value of any age, to compare the next one with.
func (c *Cache[V]) Last(key Key) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if !e.has() {
		return value, false
	}
	return e.value, true
}

// lack returns that the object is absent.
func (e *entry[V]) lack() Result[V] {
	return Result[V]{At: e.absent, Read: e.absent, Failure: e.absence}
}
