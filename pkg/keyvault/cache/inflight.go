package cache

import (
	"context"
	"errors"
	"sync"
	"time"
)

// FetchTimeout bounds a fetch. The kubelet waits as long for a publish. LongTimeout bounds one that goes on without its callers,
// see [Demand.GoesOnFor].
const (
	FetchTimeout = 2 * time.Minute
	LongTimeout  = 10 * time.Minute
)

// maxGoingOn bounds the fetches of an owner that go on without callers. Nothing else does: what limits a publish is given back when its
// call ends, and a volume may have a timeout of milliseconds. Their requests wait in the same line as those of others.
const maxGoingOn = 16

// ErrImpatient is the failure of a caller that prefers the last known value to a longer wait. The fetch continues.
var ErrImpatient = errors.New("no answer in time for a caller that has the last known value")

// Service is a service that a fetch waits for.
type Service interface {
	// State returns how long no request is sent to the service, a channel that is closed when that gets worse, and
	// the reason, which is nil while requests may be sent.
	State() (wait time.Duration, changed <-chan struct{}, reason error)
	// Throttled returns why requests still wait; nil if the service does not throttle.
	Throttled() error
}

// Fetch reads an object. It reports each service before it waits for it.
type Fetch[V Value] func(ctx context.Context, waitFor func(name string, s Service)) Result[V]

// inflight is one fetch for all callers that want the same object as the same identity. It has its own context: it
// must not end with the first caller, and it ends when the last has left.
type inflight[V Value] struct {
	began  time.Time
	done   chan struct{}
	result Result[V] // valid once done is closed

	cancel  context.CancelFunc
	owner   string // see Demand.GoesOnFor
	waiting int    // guarded by Cache.mu; it goes on without callers if this is 0 and Cache.inflight has it

	mu      sync.Mutex
	name    string
	service Service
	moved   chan struct{} // closed when the fetch waits for another service
}

func (f *inflight[V]) waitFor(name string, s Service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name, f.service = name, s
	close(f.moved)
	f.moved = make(chan struct{})
}

// Get answers from the cache, or with a fetch that it starts or joins. It returns when ctx ends, or at once if the
// service is closed for longer than the caller's time. If patience is not 0, it returns after that time, or after half
// of the caller's time if that is less. It starts no fetch if ctx has ended.
func (c *Cache[V]) Get(ctx context.Context, key Key, d Demand, patience time.Duration, fetch Fetch[V]) (Result[V], Outcome) {
	c.mu.Lock()
	if r, ok := c.find(key, d); ok {
		c.mu.Unlock()
		return r, Hit
	}
	f, joined := c.inflight[key]
	joined = joined && !f.began.Before(d.NotBefore) // its request may have been sent before
	switch {
	case joined:
		if f.waiting == 0 {
			c.goingOn.remove(f.owner)
		}
		f.waiting++
	case ctx.Err() != nil:
		c.mu.Unlock()
		return Result[V]{Failure: &Failure{Err: ctx.Err()}}, Hit
	default:
		f = c.start(ctx, key, d, fetch)
	}
	c.mu.Unlock()
	r := c.await(ctx, key, f, patience)
	if joined {
		return r, Shared
	}
	return r, Miss
}

// Alone makes a fetch that is not shared and not stored. It waits like [Cache.Get].
func (c *Cache[V]) Alone(ctx context.Context, fetch Fetch[V]) Result[V] {
	own, f := c.newInflight(ctx, FetchTimeout)
	go func() {
		defer f.cancel()
		f.result = fetch(own, f.waitFor)
		close(f.done)
	}()
	return c.await(ctx, Key{}, f, 0)
}

func (c *Cache[V]) newInflight(ctx context.Context, timeout time.Duration) (context.Context, *inflight[V]) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout) //nolint:gosec // G118: the fetch calls it
	return own, &inflight[V]{began: c.options.Now(), done: make(chan struct{}), moved: make(chan struct{}), cancel: cancel, waiting: 1}
}

// start begins a fetch. The caller holds c.mu.
func (c *Cache[V]) start(ctx context.Context, key Key, d Demand, fetch Fetch[V]) *inflight[V] {
	timeout := FetchTimeout
	if d.GoesOnFor != "" {
		timeout = LongTimeout
	}
	if older, ok := c.inflight[key]; ok && older.waiting == 0 {
		c.goingOn.remove(older.owner)
		older.cancel()
	}
	own, f := c.newInflight(ctx, timeout)
	f.owner = d.GoesOnFor
	c.inflight[key] = f
	go func() {
		defer f.cancel()
		r := fetch(own, f.waitFor)
		r.Read = r.At
		if r.Failure == nil || !errors.Is(own.Err(), context.Canceled) { // a cancelled fetch has no meaningful result
			c.Store(key, d, r)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.inflight[key] == f {
			delete(c.inflight, key)
			if f.waiting == 0 {
				c.goingOn.remove(f.owner)
			}
		}
		f.result = r
		close(f.done)
	}()
	return f
}

// leave ends a fetch when its last caller leaves, unless it goes on. The next caller starts another.
func (c *Cache[V]) leave(key Key, f *inflight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	if c.inflight[key] == f {
		if c.goingOn.add(f.owner) {
			return
		}
		delete(c.inflight, key)
	}
	f.cancel()
}

// goingOn counts the fetches without callers by owner.
type goingOn map[string]int

// add counts one more, and reports whether it may go on.
func (g goingOn) add(owner string) bool {
	if owner == "" || g[owner] == maxGoingOn {
		return false
	}
	g[owner]++
	return true
}

func (g goingOn) remove(owner string) {
	if g[owner]--; g[owner] == 0 {
		delete(g, owner)
	}
}

func (c *Cache[V]) await(ctx context.Context, key Key, f *inflight[V], patience time.Duration) Result[V] {
	stays := false
	defer func() {
		if !stays {
			c.leave(key, f)
		}
	}()
	left, impatient := FetchTimeout, make(<-chan time.Time)
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	if patience > 0 {
		left = min(left/2, patience)
		impatient = c.options.After(left)
	}
	end := c.options.Now().Add(left)
	for {
		f.mu.Lock()
		name, service, moved := f.name, f.service, f.moved
		f.mu.Unlock()
		failed := func(err error) Result[V] { return Result[V]{Failure: &Failure{Err: err, Asked: name}} }
		var changed <-chan struct{}
		if service != nil {
			var wait time.Duration
			var reason error
			if wait, changed, reason = service.State(); reason != nil && wait > end.Sub(c.options.Now()) {
				return failed(reason)
			}
		}
		select {
		case <-f.done:
			return f.result
		case <-moved:
		case <-changed:
		case <-impatient:
			stays = true // so that the next caller finds the result of the fetch
			return failed(ErrImpatient)
		case <-ctx.Done():
			if service != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				if reason := service.Throttled(); reason != nil {
					return failed(reason)
				}
			}
			return failed(ctx.Err())
		}
	}
}

// Waiting counts the callers that wait for a fetch.
func (c *Cache[V]) Waiting() (count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.inflight {
		count += f.waiting
	}
	return count
}
