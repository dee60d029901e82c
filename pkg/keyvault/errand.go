package keyvault

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
	"unique"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// errand is one Fetch: who asks, and how fresh the answer has to be.
type errand struct {
	volume.Request
	identity unique.Handle[credentialKey]
	owner    owner
	demand   demand
	bytes    atomic.Int64 // of the files so far
	files    atomic.Int64
	who      *volume.Principal // whom the policy has permitted; nil where that does not matter
}

func (c *Client) errand(r volume.Request) *errand {
	key := c.credentialKey(r, r.Identity.TenantID)
	e := &errand{Request: r, identity: unique.Make(key), owner: ownerOf(key, r), demand: demand{maxAge: c.mountMaxAge}}
	if r.Refresh {
		e.demand = demand{refresh: true, maxAge: r.RotationInterval, held: c.cache.heldBy(r.Volume)}
	}
	return e
}

// belongTo gives an errand over to an identity. What another has been given for the same name is nothing to it.
func (e *errand) belongTo(c *Client, who volume.Principal) {
	key := c.credentialKey(e.Request, e.Identity.TenantID)
	key.answered = who
	e.who, e.identity = &who, unique.Make(key)
}

// served takes what the cache has, and gives the reads that are left.
func (c *Client) served(ctx context.Context, e *errand, reads []*read) (left []*read) {
	for _, r := range reads {
		if !c.proven(e, r.key.vault) {
			left = append(left, r)
			continue
		}
		known, ok := c.cache.find(entryKey{e.identity, r.key}, e.demand, r.optional)
		if !ok || known.failed != nil {
			left = append(left, r)
			continue
		}
		c.metrics.asked(cacheHit)
		r.err = c.accept(ctx, e, r, known)
	}
	return left
}

// accept makes the files of a read of what was got for it, and keeps only them: a certificate may be many times as large
// as the file that a volume wants of it. got is nil when there is no such object and nobody minds.
func (c *Client) accept(ctx context.Context, e *errand, r *read, from result) error {
	r.entry, r.at = from.entry, from.at
	switch {
	case from.got == nil:
		r.absent = true
		return nil
	case r.key.interfaceName == interfaceList:
		r.names = from.got.names
		return nil
	}
	u := &unpacking{got: from.got}
	r.files = make([][]volume.File, 0, len(r.objects))
	for _, object := range r.objects {
		files, err := c.render(ctx, e.Pod.Namespace, *object, u)
		if err != nil {
			return err
		}
		if err := e.keep(ctx, files); err != nil {
			return err
		}
		r.files = append(r.files, files)
	}
	r.notAfter, r.decoded = u.notAfter(), u.decoded
	return nil
}

// keep counts files against the limits of the volume and the memory of the node.
func (e *errand) keep(ctx context.Context, files []volume.File) error {
	var size int64
	for _, file := range files {
		size += int64(len(file.Data.Reveal()))
	}
	if err := e.Limits.Check(e.bytes.Add(size), int(e.files.Add(int64(len(files))))); err != nil {
		return err
	}
	return e.hold(ctx, size)
}

// hold asks the node for memory.
func (e *errand) hold(ctx context.Context, bytes int64) error {
	if e.Memory == nil {
		return nil
	}
	return e.Memory.Hold(ctx, bytes)
}

// mayRead asks the node whether one more object may be read.
func (e *errand) mayRead(ctx context.Context, vault string) (done func(), err error) {
	if e.Memory == nil {
		return func() {}, nil
	}
	return e.Memory.Read(ctx, vault)
}

// longestSpread bounds how long a refresh waits for its turn. Nobody waits for it but the kubelet, for two minutes.
const longestSpread = 10 * time.Second

// spread lets a refresh wait until the objects are due, and says whether it did.
func (c *Client) spread(ctx context.Context, e *errand, reads []*read) bool {
	var wait time.Duration
	for _, r := range reads {
		wait = max(wait, c.cache.due(entryKey{e.identity, r.key}, e.RotationInterval, min(e.RotationInterval/20, longestSpread)))
	}
	if !e.Refresh || wait == 0 {
		return false
	}
	select {
	case <-c.after(wait):
	case <-ctx.Done():
	}
	return true
}

// do answers one read: from the cache, from a fetch that it begins or joins, or, in an outage and if the operator
// wants it, with the last known value.
func (c *Client) do(ctx context.Context, e *errand, r *read) error {
	key := entryKey{e.identity, r.key}
	object, call := r.object(), r.call // a fetch may outlive the read
	if !c.proven(e, key.vault) {
		if failed := c.prove(ctx, e, r); failed != nil {
			c.metrics.asked(cacheMiss)
			return c.explain(ctx, e, object, failed)
		}
	}
	outcome := cacheHit
	known, f, started := c.cache.ask(ctx, key, e.demand, r.optional, func(ctx context.Context, f *flight) result {
		return c.fetch(ctx, f, e, object, call)
	})
	switch {
	case f != nil && started:
		outcome = cacheMiss
	case f != nil:
		outcome = cacheShared
	case known.entry == nil:
		known.failed = &failure{err: ctx.Err(), waited: theVault}
	}
	if f != nil {
		known = c.await(ctx, e, key, f)
	}
	defer func() { c.metrics.asked(outcome) }()
	if known.failed == nil || r.optional && known.failed.absent() {
		return c.accept(ctx, e, r, known)
	}
	err := c.explain(ctx, e, object, known.failed)
	if last, ok := c.lastKnown(e, key); ok && errors.Is(err, volume.ErrUnavailable) {
		outcome = cacheStale
		r.outage = err
		return c.accept(ctx, e, r, last)
	}
	return err
}

// explain puts a failure into the words of one who waits for it.
func (c *Client) explain(ctx context.Context, e *errand, object volume.Object, f *failure) error {
	about := matter{cloud: c.cloud, identity: e.Identity, object: object, tenant: f.tenant, vaults: f.vaults}
	if errors.Is(f.err, errNoLogin) {
		return volume.Errorf(volume.ErrInvalid, "%s: no login can be made of clientID and tenantID; check them", about)
	}
	return about.explain(ctx, f.waited, f.err)
}

// lastKnown gives what a first mount may use while the vault cannot be reached. For a pod that has not proven itself that
// is nothing, whoever cannot be reached.
func (c *Client) lastKnown(e *errand, key entryKey) (result, bool) {
	if e.Refresh || c.lastKnownGood == 0 || !c.proven(e, key.vault) {
		return result{}, false
	}
	return c.cache.lastKnown(key, c.lastKnownGood)
}
