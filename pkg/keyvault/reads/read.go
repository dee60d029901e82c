package reads

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// longestSpread bounds the wait of a refresh, so that the volumes of a node refresh together. The kubelet waits for
// it, for up to two minutes.
const longestSpread = 10 * time.Second

func (f *Fetch) cacheKey(r *read) cache.Key {
	return cache.Key{Identity: f.identity, Vault: r.request.Vault, Interface: r.request.Interface, Name: r.request.Name, Version: r.request.Version}
}

func (f *Fetch) demandOf(r *read) cache.Demand {
	demand := f.Demand
	demand.Optional = r.optional
	if s, limited := f.shares[r.request.Vault]; limited {
		demand.Limited, demand.Late = true, s.late
		// A long list would begin anew at each call.
		if r.pages == 0 && r.object().IsList() {
			demand.GoesOnFor = f.Pod.Namespace
		}
		if r.pages > 0 { // a list that goes on after its refresh is older than the values that were read meanwhile
			demand.Since = time.Time{}
		}
		if r.pages > 0 || r.changed {
			demand.Late = 0
		}
	}
	return demand
}

// cached answers reads from the cache, and returns the reads that are left.
func (f *Fetch) cached(ctx context.Context, reads []*read) (left []*read) {
	for _, r := range reads {
		known, ok := cache.Result[*Value]{}, false
		if f.proven(r.request.Vault) {
			demand := f.demandOf(r)
			if demand.Listed { // a list may show that it is current, and costs less than a few reads
				demand.Late = 0
			}
			known, ok = f.cache.Find(f.cacheKey(r), demand)
		}
		if !ok || known.Failure != nil && !(r.optional && known.Failure.Absent) {
			left = append(left, r)
			continue
		}
		outcome := cache.Hit
		if f.isLate(r, known.At) {
			outcome = cache.Late
		}
		f.cache.Count(outcome)
		r.err = f.accept(ctx, r, known)
	}
	return left
}

// spread waits until the objects of a refresh are due, and reports whether it waited.
func (f *Fetch) spread(ctx context.Context, reads []*read) bool {
	var wait time.Duration
	for _, r := range reads {
		wait = max(wait, f.cache.Due(f.cacheKey(r), f.demandOf(r), min(f.RotationInterval/20, longestSpread)))
	}
	if !f.Refresh || wait == 0 {
		return false
	}
	select {
	case <-f.after(wait):
	case <-ctx.Done():
	}
	return true
}

// read answers one read: from the cache, from a fetch that it starts or joins, or with the last known value if there
// is an outage and the operator allows it.
func (f *Fetch) read(ctx context.Context, r *read) error {
	object := r.object()
	if !f.proven(r.request.Vault) {
		if failure := f.prove(ctx, r); failure != nil {
			f.cache.Count(cache.Miss)
			return f.explain(ctx, object, failure)
		}
	}
	last, late := f.untilLater(r)
	if r.reserved = late && f.mayRefresh(r); late && !r.reserved {
		f.cache.Count(cache.Late)
		return f.accept(ctx, r, last)
	}
	ctx = f.requestContext(ctx, r)
	patience := time.Duration(0)
	if _, ok := f.lastKnown(r); ok || late && object.IsList() {
		patience = azure.TryTimeout
	}
	result, outcome := f.get(ctx, r, patience)
	if r.reserved && outcome != cache.Miss { // the request was another's
		f.vaults.Throttle(r.request.Vault).Return()
	}
	defer func() { f.cache.Count(outcome) }()
	if failure := result.Failure; failure != nil && !(r.optional && failure.Absent) {
		err := f.explain(ctx, object, failure)
		answer, _ := errors.AsType[*azure.Answer](failure.Err)
		if late && (answer != nil && answer.Status == http.StatusTooManyRequests || errors.Is(failure.Err, cache.ErrImpatient)) {
			outcome = cache.Late
			return f.accept(ctx, r, last)
		}
		if last, ok := f.lastKnown(r); ok && errors.Is(err, volume.ErrUnavailable) {
			outcome, r.outage = cache.Stale, err
			return f.accept(ctx, r, last)
		}
		return err
	}
	return f.accept(ctx, r, result)
}

// shared is f without what only its caller needs. A read of f may go on after the caller has given up: then nothing may hold the request's
// objects and the files that the caller has made, which are not counted any more.
func (f *Fetch) shared() *Fetch {
	s := *f
	s.lists, s.reads, s.take = nil, nil, nil
	s.Objects, s.Manifests, s.Folders, s.Memory, s.Permit = nil, nil, nil, nil, nil
	return &s
}

// get answers a read of a pod that has proven itself: from the cache, or from a fetch that it starts or joins.
func (f *Fetch) get(ctx context.Context, r *read, patience time.Duration) (cache.Result[*Value], cache.Outcome) {
	key, t, shared := f.cacheKey(r), target{r.request, r.object(), r.pages}, f.shared()
	return f.cache.Get(ctx, key, f.demandOf(r), patience, func(ctx context.Context, waitFor waitFor) (result cache.Result[*Value]) {
		began := shared.now()
		err := azure.Guarded(func() error { // a panic fails one object and does not end the process
			result = shared.ask(login.WithProver(azure.WithNamespace(ctx, shared.Pod.Namespace), shared.Request), waitFor, t, key)
			return nil
		})
		if err != nil {
			return cache.Result[*Value]{At: began, Failure: &cache.Failure{Err: err, Asked: theVault}}
		}
		return result
	})
}

// lastKnown returns the value for a first mount while the vault cannot be reached. There is none for a pod that has
// not proven itself, whichever service cannot be reached.
func (f *Fetch) lastKnown(r *read) (cache.Result[*Value], bool) {
	if f.Refresh || !f.proven(r.request.Vault) {
		return cache.Result[*Value]{}, false
	}
	return f.cache.LastKnown(f.cacheKey(r), f.demandOf(r))
}

// tenant returns the tenant to log in to for a vault; empty if it is not known.
func (f *Fetch) tenant(vault string) string {
	if f.Identity.TenantID != "" {
		return f.Identity.TenantID
	}
	tenant, _ := f.vaults.Tenant(vault)
	return tenant
}

// proven reports whether the pod may share the values that its identity has read from a vault.
func (f *Fetch) proven(vault string) bool { return f.logins.Proven(f.Owner, f.tenant(vault)) }

// prove asks Entra ID to verify the pod's own assertion. Its failure does not affect the reads of other pods. Only
// the failure of a vault that does not name its tenant is stored for all.
func (f *Fetch) prove(ctx context.Context, r *read) *cache.Failure {
	key := f.cacheKey(r)
	if known := f.cache.Paused(key); known != nil && known.VaultTenant == "" {
		return known
	}
	return f.cache.Alone(ctx, func(ctx context.Context, waitFor waitFor) (result cache.Result[*Value]) {
		ctx = login.WithProver(azure.WithNamespace(ctx, f.Pod.Namespace), f.Request)
		began := f.now()
		if _, known := f.vaults.Tenant(r.request.Vault); !known { // otherwise the vault gets no request
			waitFor(theVault, f.vaults.Throttle(r.request.Vault))
		}
		vaultTenant, err := f.vaults.Challenge(ctx, r.request)
		if err != nil {
			result = cache.Result[*Value]{At: began, Failure: f.vaultFailure(r.object(), err, "", "")}
			if ctx.Err() == nil {
				f.cache.Store(key, f.demandOf(r), result)
			}
			return result
		}
		tenant := cmp.Or(f.Identity.TenantID, vaultTenant)
		l, err := f.logins.Of(f.Request, tenant)
		if err == nil {
			waitFor(loginService(f.Identity), l.Throttle())
			err = l.Prove(ctx)
		}
		if err != nil {
			result.Failure = f.loginFailure(l, err, tenant, vaultTenant)
		}
		return result
	}).Failure
}

// accept takes a value: the names of a list, or what the caller takes. What is absent has no value.
func (f *Fetch) accept(ctx context.Context, r *read, from cache.Result[*Value]) error {
	r.at, r.read = from.At, from.Read
	switch {
	case from.Value == nil:
		return nil
	case r.object().IsList():
		r.names, r.stamps = from.Value.Names, from.Value.Stamps
		return nil
	}
	return f.take(ctx, r.objects, from.Value)
}
