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
	// sharedTimeout bounds a token request that several callers share: it must not end with the first of them.
	sharedTimeout = 30 * time.Second
	// failedLogin is how long a failed login answers the next ones, so that a burst of pods costs one refusal.
	failedLogin = time.Second
	// refreshBefore is how long before its end a token is renewed. refreshPause is the minimum time between two
	// attempts.
	refreshBefore = 5 * time.Minute
	refreshPause  = 30 * time.Second
	// lastUse is how long before its end a token is still sent, so that it arrives in time.
	lastUse = 30 * time.Second
)

// ErrNoLogin means that the SDK rejects the parameters of the identity.
var ErrNoLogin = &azure.Own{Err: errors.New("no login can be made")}

// Login is the token of one identity, shared by all pods that run as this identity.
//
// It is between the SDK's vault clients and the SDK's credential. With the latter alone, callers would queue behind a
// failing or hanging request and ignore their contexts. Here one request runs for all, in its own context, and each
// caller leaves when its context ends.
//
// Each login has its own throttle. Entra ID throttles by application, and one pod's refusals must not delay the
// logins of other pods on the node.
type Login struct {
	tenant   string
	scopes   []string
	host     string        // of the authority
	service  azure.Service // that issues the tokens
	inner    azcore.TokenCredential
	now      func() time.Time
	counted  func(error) // called after each token request, with its reduced error
	report   func(error) // called for each new reason why a good token is not renewed
	throttle *azure.Throttle
	proofs   *proofs // of the pods that share a workload identity
	requests singleflight.Group

	used time.Time // guarded by Logins.mu

	mu       sync.Mutex
	token    azcore.AccessToken
	tried    time.Time
	failed   error  // reduced error of the last request
	reported string // the last reason why a good token was not renewed; empty after a success
	rejected bool   // a vault has refused the token
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
		report:   func(err error) { l.logRenewal(key, err) },
		throttle: azure.NewThrottle(service, azure.ConnsPerHost, l.options.Now, l.options.After, l.options.Random),
		proofs:   newProofs(l.options.Now),
	}
}

// Throttle returns the throttle of the login.
func (l *Login) Throttle() *azure.Throttle { return l.throttle }

// GetToken implements azcore.TokenCredential. It ignores the tenant and the scope that the SDK takes from a vault's
// challenge: a login has one of each. The error is reduced, see [azure.Reduce], or the error of ctx.
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

// usable reports whether the token can still be sent. The caller holds l.mu.
func (l *Login) usable() bool { return l.now().Before(l.token.ExpiresOn.Add(-lastUse)) }

// Ready reports whether the pod of ctx gets a token without a request.
func (l *Login) Ready(ctx context.Context) bool {
	who, ok := proverOf(ctx)
	l.mu.Lock()
	usable := l.usable()
	l.mu.Unlock()
	return usable && (!ok || l.proofs.has(who.pod))
}

// HoldsToken reports whether there is a token from an earlier request.
func (l *Login) HoldsToken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token.Token != ""
}

// Reject records that a vault has refused a token, unless it was renewed meanwhile. The next [Logins.Of] makes a new login, because the
// SDK's credential would return the old token again. The proofs of the pods stay.
func (l *Login) Reject(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected = l.rejected || l.token.Token == token
}

// unusable reports whether a new login is needed.
func (l *Login) unusable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rejected || errors.Is(l.failed, ErrAnotherAnswers)
}

// Principal returns the owner of the tokens. It is false if the owner is not known, or need not be read from a token.
func (l *Login) Principal() (volume.Principal, bool) {
	if c, ok := l.inner.(*metadataCredential); ok {
		if who := c.principal.Load(); who != nil {
			return *who, true
		}
	}
	return volume.Principal{}, false
}

// renewal returns when a token is due for renewal: at the time that the authority gives, or some time before its end.
func renewal(t azcore.AccessToken) time.Time {
	if !t.RefreshOn.IsZero() {
		return t.RefreshOn
	}
	return t.ExpiresOn.Add(-refreshBefore)
}

// acquire waits for a new token, at most until ctx ends.
func (l *Login) acquire(ctx context.Context, claims string) (azcore.AccessToken, error) {
	select {
	case result := <-l.start(ctx, claims):
		token, _ := result.Val.(azcore.AccessToken)
		return token, result.Err
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
}

// start requests a new token, or joins a running request.
func (l *Login) start(ctx context.Context, claims string) <-chan singleflight.Result {
	return l.requests.DoChan(claims, func() (any, error) {
		l.mu.Lock()
		token, fresh := l.token, claims == "" && l.usable() && l.now().Before(renewal(l.token))
		l.mu.Unlock()
		if fresh { // since the caller looked
			return token, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
		defer cancel()
		token, err := l.request(ctx, claims, func() error { return nil })
		l.mu.Lock()
		held := claims == "" && l.usable()
		l.tried, l.failed = l.now(), err
		news := l.isNews(held, err)
		if err == nil {
			l.token = token
		}
		l.mu.Unlock()
		if news {
			l.report(err)
		}
		if who, ok := proverOf(ctx); ok && err == nil {
			l.proofs.record(who.pod, nil)
		} else if ok && !held && azure.Refused(err) { // with a good token, only the renewal has failed
			l.proofs.dropAll()
		}
		return token, err
	})
}

// isNews reports whether a renewal of a good token has failed for another reason than the last one. The caller holds l.mu.
func (l *Login) isNews(held bool, err error) bool {
	before := l.reported
	switch {
	case err == nil:
		l.reported = ""
	case held:
		l.reported = err.Error()
	}
	return l.reported != "" && l.reported != before
}

// offer takes a token from a pod's proof, if it lasts longer.
func (l *Login) offer(token azcore.AccessToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token.ExpiresOn.After(l.token.ExpiresOn) {
		l.token, l.tried, l.failed = token, l.now(), nil
	}
}

// request requests a token as soon as the throttle allows it. stop returns why the request is no longer needed, or
// nil.
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
		if answer, ok := errors.AsType[*azure.Answer](err); ok {
			by := *answer          // a copy, because other callers may hold the original
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
