package keyvault

import "time"

// Tidy forgets every value that nobody can be served with any more, and gives about how many bytes that were. Without
// it that is done now and then when an object is fetched, so that the last values stay until then.
//
// A value serves a first mount up to [Options.MountMaxAge], and in an outage up to [Options.LastKnownGood]. It serves
// the refreshes of volumes that share it and have an older one, while it is younger than their interval. A volume that
// has it is never served with it again, but for a pinned version: that stays as long as a volume has it. So does what a
// certificate was taken apart into.
func (c *Client) Tidy() (bytes int) {
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	before := c.cache.bytes
	c.cache.sweep(c.now())
	return before - c.cache.bytes + c.decoder.tidy()
}

// sweep forgets values that can serve nobody, and entries that no volume holds and that tell nothing. The caller holds c.mu.
func (c *cache) sweep(now time.Time) {
	c.swept = now
	for _, e := range c.entries {
		if e.got != nil && !c.useful(e, now) {
			c.fill(e, nil)
		}
		if e.got == nil && e.held == 0 && now.Sub(e.used) >= callTime {
			c.drop(e)
		}
	}
}

// useful says whether somebody can still be served with the entry's value. There may be a volume of before the start that
// could, and has not shown itself: it costs one request, see asked. The caller holds c.mu.
func (c *cache) useful(e *entry, now time.Time) bool {
	age := now.Sub(e.at)
	switch {
	case younger(age, c.mounts):
		return true
	case e.key.version != "":
		return e.held > 0 || younger(age, callTime)
	default:
		return (e.held > e.current || e.more) && younger(age, e.interval)
	}
}

// asked notes that the value has been asked for anew. A volume that refreshes what it is not known to hold was mounted
// before the driver started, or the entry has been evicted since: there may be others like it. The caller holds cache.mu.
func (e *entry) asked(at time.Time, d demand) {
	if !at.Equal(e.at) {
		e.current = 0
	}
	e.at = at
	_, known := d.held[e]
	e.more = d.refresh && !known
	if d.refresh {
		e.interval = max(e.interval, d.maxAge)
	}
}

// hold counts a volume that has been given what was asked for at the time at. The caller holds cache.mu.
func (e *entry) hold(at time.Time, interval time.Duration) {
	e.held++
	e.interval = max(e.interval, interval)
	if at.Equal(e.at) {
		e.current++
	}
}

// release is the opposite of hold. The caller holds cache.mu.
func (e *entry) release(at time.Time) {
	e.held--
	if at.Equal(e.at) {
		e.current--
	}
}
