package keyvault

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// holding is what a volume that is mounted has been given.
type holding struct {
	owner        owner
	interval     time.Duration
	objects      []heldObject
	vaults       []string
	certificates []heldCertificate
	decoded      []*decoded
}

type heldObject struct {
	entry *entry
	at    time.Time // of the fetch
}

type heldCertificate struct {
	vault, name string
	notAfter    time.Time
}

// heldBy gives the fetches that a volume has.
func (c *cache) heldBy(volume string) map[*entry]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	objects := c.volumes[volume].objects
	held := make(map[*entry]time.Time, len(objects))
	for _, o := range objects {
		held[o.entry] = o.at
	}
	return held
}

const (
	// maxHeld bounds the objects that are remembered as those of a volume, of all volumes together: 500 volumes of 64. What
	// is given to a larger volume beyond is treated as if it had been mounted before the start: that may cost a request.
	// Smaller ones are always remembered, so that none loses by what others hold.
	maxHeld = 32 << 10
	small   = 64
)

// hold remembers what a volume has been given, and gives what it had before.
func (c *cache) hold(volume string, now holding) (before holding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before = c.volumes[volume]
	if c.held += len(now.objects) - len(before.objects); c.held > maxHeld && len(now.objects) > small {
		c.held -= len(now.objects)
		now.objects, now.certificates = nil, soonest(now.certificates)
	}
	for _, o := range now.objects {
		o.entry.hold(o.at, now.interval)
	}
	for _, o := range before.objects {
		o.entry.release(o.at)
	}
	if now.owner != (owner{}) {
		c.volumes[volume] = now
		if c.owners[now.owner.identity] == nil {
			c.owners[now.owner.identity] = map[podKey]int{}
		}
		c.owners[now.owner.identity][now.owner.pod]++
	} else {
		delete(c.volumes, volume)
	}
	c.disown(before.owner)
	return before
}

// soonest gives those that may be shown of all.
func soonest(all []heldCertificate) []heldCertificate {
	slices.SortStableFunc(all, func(a, b heldCertificate) int { return a.notAfter.Compare(b.notAfter) })
	return slices.Clone(all[:min(len(all), maxExpiries)])
}

// disown counts a volume less. The caller holds c.mu.
func (c *cache) disown(o owner) {
	pods, ok := c.owners[o.identity]
	if !ok {
		return
	}
	if pods[o.pod]--; pods[o.pod] <= 0 {
		delete(pods, o.pod)
	}
	if len(pods) == 0 {
		delete(c.owners, o.identity)
	}
}

// owns says whether a pod has a volume still.
func (c *cache) owns(o owner) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owners[o.identity][o.pod] > 0
}

// certificates gives those that volumes have now, each once, with the earliest end of its validity.
func (c *cache) certificates() []heldCertificate {
	c.mu.Lock()
	var all []heldCertificate
	for _, v := range c.volumes {
		all = append(all, v.certificates...)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b heldCertificate) int {
		return cmp.Or(strings.Compare(a.vault, b.vault), strings.Compare(a.name, b.name), a.notAfter.Compare(b.notAfter))
	})
	return slices.CompactFunc(all, func(a, b heldCertificate) bool { return a.vault == b.vault && a.name == b.name })
}

// hold remembers what was given to a volume that has a name.
func (c *Client) hold(e *errand, vaults []string, reads []*read) {
	if e.Volume == "" {
		return
	}
	now := holding{owner: e.owner, interval: e.RotationInterval, vaults: vaults}
	for _, r := range reads {
		if r.entry != nil {
			now.objects = append(now.objects, heldObject{r.entry, r.at})
		}
		if !r.notAfter.IsZero() {
			now.certificates = append(now.certificates, heldCertificate{r.key.vault, r.key.name, r.notAfter})
		}
		now.decoded = append(now.decoded, r.decoded...)
	}
	c.metrics.use(vaults)
	c.decoder.hold(now.decoded)
	c.release(c.cache.hold(e.Volume, now))
}

// Forget says that a volume is gone, so that nothing is kept or counted on its behalf any more. With its last volume a pod
// counts as one that has not proven itself.
func (c *Client) Forget(volume string) {
	before := c.cache.hold(volume, holding{})
	c.release(before)
	if before.owner == (owner{}) || c.cache.owns(before.owner) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, l := range c.logins {
		if key.sameIdentity(before.owner.identity.Value()) {
			l.value.proofs.drop(before.owner.pod)
		}
	}
}

// release is the opposite of what hold counts outside of the cache.
func (c *Client) release(before holding) {
	c.metrics.release(before.vaults)
	c.decoder.release(before.decoded)
}
