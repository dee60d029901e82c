package keyvault

import (
	"errors"
	"maps"
	"time"
)

const (
	// idleLogin is how long a login stays that nobody has used, departedLogin one of which no volume is left, and a client of
	// a vault, which costs nothing to make anew: longer than the kubelet's longest pause between two attempts to mount
	// (2m2s), and than a call.
	idleLogin     = time.Hour
	departedLogin = 3 * time.Minute
	sweepPause    = time.Minute
	// maxLogins bounds all of them: a pod can have hundreds of volumes, each with an identity of its own. One takes 6 to 13 KB
	// with the client of its vault.
	maxLogins = 1024
)

// Tidy forgets every value that nobody can be served with any more, and gives about how many bytes that were; and logins
// with their tokens, those that nobody has used for an hour, and three minutes after their last use those of which no
// volume is left. Without it that is done now and then when an object is fetched, so that the last stay until then.
//
// A value serves a first mount up to [Options.MountMaxAge], and in an outage up to [Options.LastKnownGood]. It serves
// the refreshes of volumes that share it and have an older one, while it is younger than their interval. A volume that
// has it is never served with it again, but for a pinned version: that stays as long as a volume has it. So does what a
// certificate was taken apart into.
func (c *Client) Tidy() (bytes int) {
	now := c.now()
	c.mu.Lock()
	c.sweep(now)
	c.mu.Unlock()
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	before := c.cache.bytes
	c.cache.sweep(now)
	return before - c.cache.bytes + c.decoder.tidy()
}

// sweep forgets logins, and what is known of vaults that nobody has used for as long. The caller holds c.mu.
func (c *Client) sweep(now time.Time) {
	c.swept = now
	before, departed := now.Add(-idleLogin), now.Add(-departedLogin)
	c.cache.mu.Lock()
	for key, l := range c.logins {
		live := c.cache.owners[withoutTenant(key)]
		if l.used.Before(before) || len(live) == 0 && l.used.Before(departed) {
			delete(c.logins, key)
		}
		l.value.proofs.sweep(live, departed)
	}
	c.cache.mu.Unlock()
	c.sweepSessions(departed)
	c.challenges.sweep(before)
	c.gates.sweep(before)
}

// makeRoom forgets logins when there are too many: those that have no token, which lose nothing but their pauses, or else
// the one that was used longest ago. The caller holds c.mu.
func (c *Client) makeRoom() {
	if len(c.logins) < maxLogins {
		return
	}
	maps.DeleteFunc(c.logins, func(_ credentialKey, l *idle[*login]) bool { return !l.value.holdsToken() })
	for len(c.logins) >= maxLogins {
		var oldest credentialKey
		var used time.Time
		for key, l := range c.logins {
			if used.IsZero() || l.used.Before(used) {
				oldest, used = key, l.used
			}
		}
		delete(c.logins, oldest)
	}
	c.sweepSessions(c.now().Add(-departedLogin))
}

// sweepSessions forgets the clients of vaults that nobody has used since before, and those whose login is gone. The caller
// holds c.mu.
func (c *Client) sweepSessions(before time.Time) {
	sweep(c.sessions, before)
	for key, s := range c.sessions {
		if known, ok := c.logins[key.credentialKey]; !ok || known.value != s.value.login {
			delete(c.sessions, key)
		}
	}
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

// refuse forgets every value that an identity was given: by all vaults of the tenant whose Entra ID has refused the login
// itself, else by the vault that does not accept it. The caller holds c.mu.
func (c *cache) refuse(as entryKey, f *failure) {
	said, ok := errors.AsType[*answer](f.err)
	login := ok && said.entra
	for key, e := range c.entries {
		theirs := key.vault == as.vault
		if login {
			theirs = said.metadata || e.tenant == f.tenant
		}
		if theirs && key.identity.Value().sameIdentity(as.identity.Value()) {
			c.revoke(e)
		}
	}
}

// revoke takes an entry's value away. The caller holds c.mu.
func (c *cache) revoke(e *entry) {
	c.fill(e, nil)
	e.at, e.current = time.Time{}, 0
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
