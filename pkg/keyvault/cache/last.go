package cache

import "time"

// LastKnown returns the last value of an object, if the demand may be satisfied with it in an outage.
func (c *Cache[V]) LastKnown(key Key, d Demand) (Result[V], bool) {
	return c.last(key, d, c.options.LastKnownGood)
}

// Late returns the last value of an object for a refresh that the vault's limit leaves no request for now.
func (c *Cache[V]) Late(key Key, d Demand) (Result[V], bool) {
	return c.last(key, d, LateTime)
}

func (c *Cache[V]) last(key Key, d Demand, limit time.Duration) (Result[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, now := c.entries[key], c.options.Now()
	if !e.has() || !younger(now.Sub(e.listed), limit) || d.excludes(e.read, now) {
		return Result[V]{}, false
	}
	return e.result(e.listed), true
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
