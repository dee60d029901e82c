package login

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// refusedPause and failedPause are how long a failed proof answers the next attempts, as in package cache.
const (
	refusedPause = 2 * time.Second
	failedPause  = 10 * time.Second
	failedSpread = 20 * time.Second
)

// pod identifies a pod as the kubelet names it, and as its token does if it names one. A UID is never used again, so
// a pod that is created again under the same name is another.
type pod struct{ uid, bound string }

func podOf(r volume.Request) pod { return pod{r.Pod.UID, r.Identity.BoundPodUID} }

// proofs records which pods of a login have proven themselves: Entra ID has accepted the assertion of each. Only
// these pods share the token of the login and the values that it has read.
//
// The names in a pod's token mean nothing before Entra ID has verified the signature. That another pod with these
// names was accepted means nothing for this one: its cluster, service account or permission may be gone since.
type proofs struct {
	now      func() time.Time
	requests singleflight.Group

	mu   sync.Mutex
	pods map[pod]*proof
	down pausedFailure // an authority that cannot answer for one pod cannot answer for any
}

// proof is the state of one pod.
type proof struct {
	accepted bool
	refused  pausedFailure
	used     time.Time
}

// pausedFailure is a failure that answers the next attempts until its pause is over.
type pausedFailure struct {
	err   error
	until time.Time
}

func (p pausedFailure) at(now time.Time) error {
	if now.Before(p.until) {
		return p.err
	}
	return nil
}

func newProofs(now func() time.Time) *proofs { return &proofs{now: now, pods: map[pod]*proof{}} }

// has reports whether a pod has proven itself.
func (p *proofs) has(who pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.pods[who]
	if ok {
		known.used = p.now()
	}
	return ok && known.accepted
}

// failed returns the failure of the pod's last attempt, or of any attempt in an outage, while its pause lasts.
func (p *proofs) failed(who pod) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.pods[who]; ok {
		if err := known.refused.at(p.now()); err != nil {
			return err
		}
	}
	return p.down.at(p.now())
}

// record stores the result of an attempt. A refusal counts for this pod alone, because its assertion may be forged.
func (p *proofs) record(who pod, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	switch {
	case err == nil:
		p.pods[who] = &proof{accepted: true, used: now}
		p.down = pausedFailure{}
	case azure.Refused(err):
		p.pods[who] = &proof{refused: pausedFailure{err, now.Add(refusedPause)}, used: now}
	default:
		p.down = pausedFailure{err, now.Add(failedPause + rand.N(failedSpread))} //nolint:gosec // G404: it only spreads the nodes
	}
}

// drop forgets a pod.
func (p *proofs) drop(who pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pods, who)
}

// dropAll forgets every pod: Entra ID has refused the login that they share.
func (p *proofs) dropAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.pods)
}

// sweep drops the pods without volumes that were not used since before.
func (p *proofs) sweep(volumes map[pod]int, before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for who, known := range p.pods {
		if volumes[who] == 0 && known.used.Before(before) {
			delete(p.pods, who)
		}
	}
}

func (p *proofs) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pods)
}

// prover is a pod with its assertion. The context of the pod's call holds it, so that no assertion stays longer than
// the call.
type prover struct {
	pod       pod
	assertion volume.Secret
}

type proverKey struct{}

// WithProver adds the pod of a request with its assertion to a context, for [Login.GetToken] and [Login.Prove]. Only
// identity workload needs it.
func WithProver(ctx context.Context, r volume.Request) context.Context {
	if KindOf(r.Identity) != ByAssertion {
		return ctx
	}
	return context.WithValue(ctx, proverKey{}, prover{podOf(r), r.Identity.Assertion})
}

func proverOf(ctx context.Context) (prover, bool) {
	p, ok := ctx.Value(proverKey{}).(prover)
	return p, ok
}

// Prove verifies the pod of ctx at Entra ID, unless it has proven itself. It waits at most until ctx ends. The error
// is reduced, or the error of ctx.
func (l *Login) Prove(ctx context.Context) error {
	who, ok := proverOf(ctx)
	if !ok || l.proofs.has(who.pod) {
		return nil
	}
	if err := l.proofs.failed(who.pod); err != nil {
		return err
	}
	done := l.proofs.requests.DoChan(strconv.Quote(who.pod.uid)+strconv.Quote(who.pod.bound), func() (any, error) {
		if l.proofs.has(who.pod) { // since the look above
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
		defer cancel()
		token, err := l.request(ctx, "", func() error { return l.proofs.failed(who.pod) })
		l.proofs.record(who.pod, err)
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
