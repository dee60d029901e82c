package keyvault

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"
	"unique"

	"golang.org/x/sync/singleflight"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// proofsAtOnce bounds how many pods of one identity prove themselves at the same time.
const proofsAtOnce = connsPerHost

// podKey is a pod as the kubelet names it, and as its token does if it names one. A UID is never used again, so that a
// pod that is made anew under the same name is another.
type podKey struct{ uid, bound string }

// owner is a pod as one identity. The tenant of the identity is left out: a volume may read vaults of several.
type owner struct {
	identity unique.Handle[credentialKey]
	pod      podKey
}

func ownerOf(key credentialKey, r volume.Request) owner {
	return owner{withoutTenant(key), podKey{r.Pod.UID, r.Identity.BoundPodUID}}
}

// sameIdentity says whether two keys are of one identity, in the same tenant or not, and whoever has answered for it.
func (k credentialKey) sameIdentity(other credentialKey) bool {
	k.tenant, k.answered = other.tenant, other.answered
	return k == other
}

func withoutTenant(key credentialKey) unique.Handle[credentialKey] {
	key.tenant = ""
	return unique.Make(key)
}

// proofs say which pods have proven to be who the others of their login are: Entra ID has accepted the assertion of each.
// Only these get what the login has in common, its token and the values that it has read.
//
// That a pod's token has the right names says nothing before Entra ID has looked at its signature; and that another pod
// of these names was accepted says nothing of this one, whose cluster, service account or right may be gone since.
type proofs struct {
	now    func() time.Time
	flight singleflight.Group

	mu   sync.Mutex
	pods map[podKey]*idle[proof]
	down paused // what an authority cannot say of one it can say of none
}

// proof is what is known of one pod.
type proof struct {
	accepted bool
	refused  paused
}

// paused is a failure that answers for the next attempt until its time is over.
type paused struct {
	err   error
	until time.Time
}

func (p paused) at(now time.Time) error {
	if now.Before(p.until) {
		return p.err
	}
	return nil
}

func newProofs(now func() time.Time) *proofs {
	return &proofs{now: now, pods: map[podKey]*idle[proof]{}}
}

// has says whether a pod has proven itself.
func (p *proofs) has(pod podKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.pods[pod]
	return ok && known.use(p.now()).accepted
}

// failed gives the failure of a pod's last attempt, or of anybody's at an authority that could not answer, while it counts.
func (p *proofs) failed(pod podKey) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.pods[pod]; ok {
		if err := known.value.refused.at(p.now()); err != nil {
			return err
		}
	}
	return p.down.at(p.now())
}

// note keeps how an attempt ended. A refusal is that of this pod alone: what it has shown may be forged.
func (p *proofs) note(pod podKey, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	switch {
	case err == nil:
		p.pods[pod] = &idle[proof]{proof{accepted: true}, now}
		p.down = paused{}
	case (&failure{err: err}).refusal():
		p.pods[pod] = &idle[proof]{proof{refused: paused{err, now.Add(refusedPause)}}, now}
	default:
		p.down = paused{err, now.Add(failedPause + someOf(failedSpread))}
	}
}

// drop forgets a pod, dropAll every one: Entra ID has refused the login that they have in common.
func (p *proofs) drop(pod podKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pods, pod)
}

func (p *proofs) dropAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.pods)
}

// sweep forgets the pods that have no volume and have not been seen since before.
func (p *proofs) sweep(live map[podKey]int, before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pod, known := range p.pods {
		if live[pod] == 0 && known.used.Before(before) {
			delete(p.pods, pod)
		}
	}
}

// prover is a pod with what it proves itself with. It travels in the context of whatever runs for the pod, so that no
// assertion stays longer than that.
type prover struct {
	pod       podKey
	assertion volume.Secret
}

type proverKey struct{}

func withProver(ctx context.Context, r volume.Request) context.Context {
	if loginOf(r.Identity) != byAssertion {
		return ctx
	}
	return context.WithValue(ctx, proverKey{}, prover{podKey{r.Pod.UID, r.Identity.BoundPodUID}, r.Identity.Assertion})
}

func proverOf(ctx context.Context) (prover, bool) {
	p, ok := ctx.Value(proverKey{}).(prover)
	return p, ok
}

// prove lets the pod of ctx prove itself, unless it has. It waits at most as long as ctx lasts.
func (l *login) prove(ctx context.Context) error {
	who, ok := proverOf(ctx)
	if !ok || l.proofs.has(who.pod) {
		return nil
	}
	if err := l.proofs.failed(who.pod); err != nil {
		return err
	}
	done := l.proofs.flight.DoChan(strconv.Quote(who.pod.uid)+strconv.Quote(who.pod.bound), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
		defer cancel()
		token, err := l.ask(ctx, "", func() error { return l.proofs.failed(who.pod) })
		l.proofs.note(who.pod, err)
		if err == nil {
			l.offer(token)
		}
		return nil, err
	})
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// proven says whether a request may be served with what its identity has been given by a vault.
func (c *Client) proven(e *errand, vault string) bool {
	if c.credential != nil || loginOf(e.Identity) != byAssertion {
		return true
	}
	key := e.identity.Value()
	key.answered = volume.Principal{} // which is of values, not of logins
	if key.tenant == "" {
		said, ok := c.challenges.known(vault)
		if !ok {
			return false
		}
		key.tenant = said.tenant
	}
	c.mu.Lock()
	known, ok := c.logins[key]
	if ok {
		known.use(c.now())
	}
	c.mu.Unlock()
	return ok && known.value.proofs.has(e.owner.pod)
}

// prove asks Entra ID whether the pod of a request is who it says, with its own assertion. Nothing of what is asked is
// shared with others, but for a vault that cannot say which tenant it belongs to, and so nobody else's fetch can fail by it.
func (c *Client) prove(ctx context.Context, e *errand, r *read) *failure {
	key := entryKey{e.identity, r.key}
	if known, ok := c.cache.find(key, e.demand, r.optional); ok && known.failed != nil && known.failed.vaults == "" {
		return known.failed
	}
	object := r.object()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	_, told := c.challenges.known(r.key.vault)
	f := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1, proves: true, aside: told}
	f.waitFor(theVault)
	go func() {
		defer cancel()
		defer close(f.done)
		f.result = result{at: c.now(), failed: &failure{err: errPanic, waited: theVault}}
		_ = guarded(func() error {
			f.result = c.fetch(own, f, e, object, nil)
			return nil
		})
		if failed := f.result.failed; failed != nil && failed.vaults == "" && !errors.Is(own.Err(), context.Canceled) {
			f.result = c.cache.store(key, e.demand, f.result)
		}
	}()
	return c.await(ctx, e, key, f).failed
}
