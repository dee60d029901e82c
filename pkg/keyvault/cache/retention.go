package cache

import "time"

// use records that a volume asks for an entry. The caller holds c.mu.
func (c *Cache[V]) use(e *entry[V], d Demand, now time.Time) {
	e.used, e.interval, e.departed, e.limited = now, max(e.interval, d.Interval), false, d.Limited
	if d.Listed {
		e.lister = now
	}
	c.recent.MoveToFront(e.element)
}

// Revoke removes each value whose key and tenant match, because its identity was refused.
func (c *Cache[V]) Revoke(match func(key Key, tenant string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.entries {
		if match(key, e.tenant) {
			c.clear(e)
		}
	}
}

// Depart marks the entries of matching identities whose last volume is gone. Only first mounts use these values from
// then on.
func (c *Cache[V]) Depart(match func(identity any) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.entries {
		if match(key.Identity) {
			e.interval, e.departed = 0, true
		}
	}
}

// Tidy drops each value that is too old for the retention rule, and returns the approximate bytes of the dropped
// values. Without it, only Store drops old values.
func (c *Cache[V]) Tidy() (bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.bytes
	c.sweep(c.options.Now())
	return before - c.bytes
}

// sweep applies the retention rule. The caller holds c.mu.
func (c *Cache[V]) sweep(now time.Time) {
	c.swept = now
	for _, e := range c.entries {
		keep := max(c.options.MountMaxAge, c.options.LastKnownGood)
		if !e.departed {
			keep = max(keep, e.interval+CallTime)
			if e.limited {
				keep = max(keep, LateTime)
			}
		}
		since := e.listed
		if e.key.Version != "" {
			since = latest(since, e.used)
		}
		if e.has() && !younger(now.Sub(since), keep) {
			c.clear(e)
		}
		if !e.has() && !younger(now.Sub(latest(e.tried, e.used)), keep) {
			c.drop(e)
		}
	}
}

// Need returns how many requests a second refreshes would send to a vault, with one for each object in its interval. Pinned
// versions, and objects of volumes that are gone or have no interval, do not count: they are not read again.
func (c *Cache[V]) Need(vault string) (rate float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	for key, e := range c.entries {
		if key.Vault == vault && key.Version == "" && e.interval > 0 && younger(now.Sub(e.used), e.interval+CallTime) {
			every := e.interval
			if e.listed.After(e.read) { // it is not read while lists show that it is current
				every = max(every, FullRead)
			}
			rate += 1 / every.Seconds()
		}
	}
	return rate
}

// Size is the approximate size of the cache in bytes.
func (c *Cache[V]) Size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// count counts the bytes of an entry again. The caller holds c.mu.
func (c *Cache[V]) count(e *entry[V]) {
	bytes := entryBytes
	if e.has() {
		bytes += e.value.Size()
	}
	if e.failure != nil {
		bytes += e.failure.Bytes
	}
	if e.absence != nil && e.absence != e.failure {
		bytes += e.absence.Bytes
	}
	c.bytes += bytes - e.bytes
	e.bytes = bytes
}

// clear removes an entry's value, or that there is none. The caller holds c.mu.
func (c *Cache[V]) clear(e *entry[V]) {
	var none V
	e.value, e.absence, e.read, e.listed = none, nil, time.Time{}, time.Time{}
	c.count(e)
}

// drop removes an entry. The caller holds c.mu.
func (c *Cache[V]) drop(e *entry[V]) {
	c.bytes -= e.bytes
	c.recent.Remove(e.element)
	delete(c.entries, e.key)
}
