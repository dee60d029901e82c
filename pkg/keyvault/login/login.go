package login

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/singleflight"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// sharedTimeout bounds a request for a token that several callers wait for: it must not end with the first of them.
	sharedTimeout = 30 * time.Second
	// failedLogin is how long a failed login answers for the next one. A burst of pods then costs one refusal.
	failedLogin = time.Second
	// refreshBefore is when a token is renewed ahead of its end, refreshPause the least time between two attempts.
	refreshBefore = 5 * time.Minute
	refreshPause  = 30 * time.Second
	// lastUse is how long before its end a token is still sent: long enough to arrive.
	lastUse = 30 * time.Second
)

// ErrNoLogin says that the SDK does not accept the parameters of the identity.
var ErrNoLogin = &azure.Own{Err: errors.New("no login can be made")}

// Login is one identity logged in: the token of its credential, shared by everything that runs as this identity.
//
// It stands between the SDK's vault clients and the SDK's credential, because with the latter all callers wait behind a
// failing or hanging request without looking at their contexts. Here one request runs for all, in a context of its own, and
// each caller leaves when its own context ends.
//
// Each login has a throttle of its own: Entra ID counts by application, and a pod that makes it refuse one must not keep
// the others of the node out.
type Login struct {
	tenant   string
	scopes   []string
	host     string        // of the authority
	service  azure.Service // that gives out the tokens
	inner    azcore.TokenCredential
	now      func() time.Time
	counted  func(error) // each request for a token, with its reduced error
	throttle *azure.Throttle
	proofs   *proofs // of the pods that share a workload identity
	requests singleflight.Group

	used time.Time // guarded by Logins.mu

	mu       sync.Mutex
	token    azcore.AccessToken
	tried    time.Time
	failed   error // of the last request, reduced
	rejected bool  // a vault has not accepted the token
}

func (l *Logins) newLogin(key Key, credential azcore.TokenCredential) *Login {
	service := azure.Entra
	if _, ok := credential.(*metadataCredential); ok {
		service = azure.Metadata
	}
	return &Login{
		tenant: key.tenant, scopes: []string{l.options.Cloud.Resource() + "/.default"}, host: l.host, service: service,
		inner: credential, now: l.options.Now,
		counted:  func(err error) { l.count(key.kind, err) },
		throttle: azure.NewThrottle(service, azure.ConnsPerHost, l.options.Now, l.options.After),
		proofs:   newProofs(l.options.Now),
	}
}

// Throttle gives the throttle of the login.
func (l *Login) Throttle() *azure.Throttle { return l.throttle }

// GetToken implements azcore.TokenCredential. The tenant and the scope that the SDK takes from a vault's challenge are
// not used: a login has one of each. The error is reduced, see [azure.Reduce], or that of ctx.
func (l *Login) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if o.Claims != "" { // the vault has revoked the token
		return l.acquire(ctx, o.Claims)
	}
	l.mu.Lock()
	token, usable, tried, failed := l.token, l.usable(), l.tried, l.failed
	l.mu.Unlock()

	now := l.now()
	switch {
	case usable && (now.Before(renewal(token)) || now.Before(tried.Add(refreshPause))):
		return token, nil
	case usable:
		l.start(ctx, "")
		return token, nil
	case failed != nil && now.Before(tried.Add(failedLogin)):
		return azcore.AccessToken{}, failed
	default:
		return l.acquire(ctx, "")
	}
}

// usable says whether the token can still be sent. The caller holds l.mu.
func (l *Login) usable() bool { return l.now().Before(l.token.ExpiresOn.Add(-lastUse)) }

// Ready says whether the pod of ctx gets a token without a request.
func (l *Login) Ready(ctx context.Context) bool {
	who, ok := proverOf(ctx)
	l.mu.Lock()
	usable := l.usable()
	l.mu.Unlock()
	return usable && (!ok || l.proofs.has(who.pod))
}

// HoldsToken says whether there is a token from an earlier request.
func (l *Login) HoldsToken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token.Token != ""
}

// Reject says that a vault has not accepted the token. The next [Logins.Of] makes a new login, because the SDK's credential
// would go on giving out the old token. What the pods have proven to Entra ID stays.
func (l *Login) Reject() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected = true
}

// unusable says that a new login is needed.
func (l *Login) unusable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rejected || errors.Is(l.failed, ErrAnotherAnswers)
}

// Principal is the identity that the tokens of the login belong to; false where that is not known, or need not be read in
// a token.
func (l *Login) Principal() (volume.Principal, bool) {
	if c, ok := l.inner.(*metadataCredential); ok {
		if who := c.principal.Load(); who != nil {
			return *who, true
		}
	}
	return volume.Principal{}, false
}

// renewal is when a token is due: when the authority says, else some time before its end.
func renewal(t azcore.AccessToken) time.Time {
	if !t.RefreshOn.IsZero() {
		return t.RefreshOn
	}
	return t.ExpiresOn.Add(-refreshBefore)
}

// acquire waits for a new token, at most as long as ctx lasts.
func (l *Login) acquire(ctx context.Context, claims string) (azcore.AccessToken, error) {
	select {
	case result := <-l.start(ctx, claims):
		token, _ := result.Val.(azcore.AccessToken)
		return token, result.Err
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
}

// start requests a new token, or joins those who wait for one.
func (l *Login) start(ctx context.Context, claims string) <-chan singleflight.Result {
	return l.requests.DoChan(claims, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
		defer cancel()
		token, err := l.request(ctx, claims, func() error { return nil })
		l.mu.Lock()
		held := claims == "" && l.usable()
		l.tried, l.failed = l.now(), err
		if err == nil {
			l.token = token
		}
		l.mu.Unlock()
		if who, ok := proverOf(ctx); ok && err == nil {
			l.proofs.record(who.pod, nil)
		} else if ok && !held && azure.Refused(err) { // with a good token it is only a renewal that came too early
			l.proofs.dropAll()
		}
		return token, err
	})
}

// offer takes a token that a pod has got with its proof, if it lasts longer.
func (l *Login) offer(token azcore.AccessToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token.ExpiresOn.After(l.token.ExpiresOn) {
		l.token, l.tried, l.failed = token, l.now(), nil
	}
}

// request asks for a token as soon as the throttle allows it. stop says why it is not needed any more when it is.
func (l *Login) request(ctx context.Context, claims string, stop func() error) (token azcore.AccessToken, err error) {
	err = l.throttle.Do(ctx, sharedTimeout, func(ctx context.Context) (err error) {
		if err := stop(); err != nil {
			return err
		}
		err = azure.Guarded(func() (err error) {
			token, err = l.inner.GetToken(azure.WithoutMemory(ctx), policy.TokenRequestOptions{
				Scopes: l.scopes, TenantID: l.tenant, Claims: claims, EnableCAE: true,
			})
			return err
		})
		if err != nil {
			err = azure.Reduce(err, azure.AttemptOf(ctx))
		}
		if said, ok := errors.AsType[*azure.Answer](err); ok {
			by := *said            // which others may hold
			by.Service = l.service // also where only the status was seen
			err = &by
		}
		if !azure.AttemptOf(ctx).Unsent() {
			l.counted(err)
		}
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if reason := l.throttle.Throttled(); reason != nil {
			return token, reason
		}
		return token, azure.NewUnreached(l.host, err)
	}
	return token, err
}
