package keyvault

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// flightTimeout ends a fetch that nobody waits for any more and nobody has given up either: the kubelet waits for a
// publish as long as this.
const flightTimeout = 2 * time.Minute

// theVault is whom a fetch waits for, unless it waits for the token.
const theVault = "the vault"

// flight is one fetch for all that want the same object as the same identity. It runs on time of its own: it must not
// end with the first who asked, and ends when the last has left.
type flight struct {
	done   chan struct{}
	result result // once done is closed

	cancel  context.CancelFunc
	waiting int                    // guarded by cache.mu
	waits   atomic.Pointer[string] // for whom, see matter.explain
	login   atomic.Pointer[login]  // that it waits for; nil when it is the vault
	proves  bool                   // it is no fetch but a proof, see prove
	aside   bool                   // it has nothing to ask the vault
}

func (f *flight) waitFor(whom string) { f.waits.Store(&whom) }

// throttled says why the flight still waits after somebody has throttled: the vault, whose gate it is, or the authority.
// nil when it is not that.
func (f *flight) throttled(g *gate) error {
	if l := f.login.Load(); l != nil {
		return l.throttled()
	}
	if reason := g.throttled(); reason != nil {
		return reason
	}
	return nil
}

// ask gives what is known, or the flight of those who wait for it; started says that there was none before. The caller
// must leave the flight. Nothing is started for a caller whose context has ended.
func (c *cache) ask(
	ctx context.Context, key entryKey, d demand, optional bool, fetch func(context.Context, *flight) result,
) (r result, f *flight, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.known(key, d, optional); ok {
		return r, nil, false
	}
	f, ok := c.flights[key]
	switch {
	case ok:
		f.waiting++
		return result{}, f, false
	case ctx.Err() != nil:
		return result{}, nil, false
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	f = &flight{done: make(chan struct{}), cancel: cancel, waiting: 1}
	f.waitFor(theVault)
	c.flights[key] = f
	go func() {
		defer cancel()
		r := result{at: c.now(), failed: &failure{err: errPanic, waited: theVault}}
		_ = guarded(func() error { // a panic is one object's trouble, not the process's
			r = fetch(own, f)
			return nil
		})
		if r.failed == nil || !errors.Is(own.Err(), context.Canceled) { // else it was given up, which says nothing
			r = c.store(key, d, r)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.flights[key] == f {
			delete(c.flights, key)
		}
		f.result = r
		close(f.done)
	}()
	return result{}, f, true
}

// leave ends a flight that nobody waits for any more. Whoever asks next starts another.
func (c *cache) leave(key entryKey, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	f.cancel()
}

// await waits for a flight as long as ctx lasts, and no longer than there is hope: not for a vault that wants to be asked
// after the caller's time, nor longer than impatient where there is a last known value.
func (c *Client) await(ctx context.Context, e *errand, key entryKey, f *flight) result {
	stays := false
	defer func() {
		if !stays {
			c.cache.leave(key, f)
		}
	}()
	gate := c.gates.of(key.vault)
	left, gone := flightTimeout, make(<-chan time.Time)
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	if _, ok := c.lastKnown(e, key); ok {
		left = min(left/2, impatient)
		gone = c.after(left)
	}
	end := c.now().Add(left)
	for {
		wait, reason, worse := gate.shut()
		if reason != nil && wait > end.Sub(c.now()) && !f.aside {
			return result{failed: &failure{err: reason, waited: theVault}}
		}
		select {
		case <-f.done:
			return f.result
		case <-worse:
		case <-gone:
			stays = true // the fetch goes on, so that the next finds how it ended
			return result{failed: &failure{err: newUnreached(hostOf(key.vault), context.DeadlineExceeded), waited: theVault}}
		case <-ctx.Done():
			if reason := f.throttled(gate); reason != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return result{failed: &failure{err: reason, waited: *f.waits.Load()}}
			}
			return result{failed: &failure{err: ctx.Err(), waited: *f.waits.Load()}}
		}
	}
}

// impatient is how long a first mount waits for the vault before it uses the last known value: one attempt.
const impatient = tryTimeout

// fetch asks for the challenge if it is unknown, logs in if need be, and asks for the object. ctx is the flight's; the
// errand is that of whoever began it. A flight that proves ends when the pod of the errand has proven itself.
func (c *Client) fetch(ctx context.Context, f *flight, e *errand, o volume.Object, call callFunc) result {
	ctx = withProver(withNamespace(ctx, e.Pod.Namespace), e.Request)
	why := &failure{waited: theVault, tenant: e.Identity.TenantID}
	at := c.now()
	failed := func(err error) result {
		if errors.Is(err, context.DeadlineExceeded) {
			err = newUnreached(hostOf(o.Vault), err)
			if reason := c.gates.of(o.Vault).throttled(); reason != nil {
				err = reason
			}
		}
		why.err = err
		return result{at: at, failed: why}
	}
	said, err := c.challenges.of(ctx, o.Vault, pathOf(o))
	if err != nil {
		return failed(err)
	}
	why.vaults = said.tenant
	if why.tenant == "" {
		why.tenant = said.tenant
	}
	for retried := false; ; retried = true {
		session, err := c.session(e.Request, why.tenant, o.Vault)
		if err != nil {
			return failed(errNoLogin)
		}
		held := session.login.holdsToken()
		value, asked, err := c.attempt(ctx, f, why, session, e, o, call)
		if err == nil {
			return result{at: asked, got: value, tenant: why.tenant}
		}
		var refusal *answer
		if !errors.As(err, &refusal) || refusal.entra || refusal.status != http.StatusUnauthorized {
			return failed(err)
		}
		c.reject(session.login)
		if said, ok := c.challenges.known(o.Vault); ok {
			why.vaults = said.tenant
		}
		// A token that was good until now may have been revoked, or the vault's clock is ahead of ours: worth one new
		// login. That a new token is refused, too, is an answer.
		if retried || !held {
			return failed(err)
		}
	}
}

// attempt logs in if need be, and asks for the object. at is just before the vault was asked.
func (c *Client) attempt(
	ctx context.Context, f *flight, why *failure, s *session, e *errand, o volume.Object, call callFunc,
) (value *got, at time.Time, err error) {
	// First the token, although the clients would ask for it themselves: they would not look at ctx while they wait.
	why.waited = matter{identity: e.Identity}.authority()
	f.waitFor(why.waited)
	f.login.Store(s.login)
	if err := s.login.prove(ctx); err != nil || f.proves {
		return nil, at, err
	}
	if _, err := s.login.GetToken(ctx, noClaims()); err != nil {
		return nil, at, err
	}
	if !e.bound(s.login) {
		return nil, at, errAnotherAnswers
	}
	why.waited = theVault
	f.waitFor(theVault)
	f.login.Store(nil)
	at = c.now()
	if o.Kind == volume.KindSelection {
		value, err = c.list(ctx, s, o, e.Limits.Files) // which goes through the gate with each page
		return value, at, err
	}
	err = c.request(ctx, o.Vault, func(ctx context.Context) (err error) {
		at = c.now()
		value, err = call(c, ctx, s, o)
		return err
	})
	return value, at, err
}

// request makes one call to a vault when its gate lets it. The error is reduced.
func (c *Client) request(ctx context.Context, vault string, call func(context.Context) error) error {
	return c.gates.of(vault).through(ctx, func(ctx context.Context) error {
		ctx, seen := withOutcome(ctx)
		ctx, end := c.answers.call(ctx)
		defer end()
		err := guarded(func() error { return call(ctx) })
		if err != nil {
			err = reduced(err, seen)
		}
		return err
	})
}

func hostOf(vault string) string { return strings.TrimPrefix(vault, "https://") }
