package keyvault

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/singleflight"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// sharedTimeout bounds what one caller asks on behalf of all that wait: it must not end with the first of them.
	sharedTimeout = 30 * time.Second
	// failedLogin is how long a failed login answers for the next one. A burst of pods then costs one refusal.
	failedLogin = time.Second
	// refreshBefore is when a token is renewed ahead of its end, refreshPause the least time between two attempts.
	refreshBefore = 5 * time.Minute
	refreshPause  = 30 * time.Second
	// lastUse is how long before its end a token is still sent: long enough to arrive.
	lastUse = 30 * time.Second
)

// login is one identity logged in: the token of its credential, shared by everything that runs as this identity.
//
// It stands between the SDK's vault clients and the SDK's credential, because the latter lets waiters stand in line
// behind a failing or hanging acquisition without looking at their contexts. Here one acquisition runs for all, on
// time of its own, and each waiter leaves when its own context ends.
//
// An authority that throttles is not asked again before the time that it names. Each login waits for itself: Entra ID
// counts by application, and a pod that makes it refuse one must not keep the others of the node out.
type login struct {
	tenant    string
	scopes    []string
	inner     azcore.TokenCredential
	now       func() time.Time
	after     func(time.Duration) <-chan time.Time
	counted   func(error)                   // each attempt, with its reduced error; may be nil
	assertion atomic.Pointer[volume.Secret] // the newest of the pods that share a workload identity
	flight    singleflight.Group

	mu      sync.Mutex
	token   azcore.AccessToken
	tried   time.Time
	failed  error     // of the last attempt; an answer or unreached
	until   time.Time // no request before
	refused error     // and why
	strikes int       // attempts that were throttled, without another between them
}

// GetToken implements azcore.TokenCredential. The tenant and the scope that the SDK takes from a vault's challenge are
// not looked at: a login has one of each.
func (l *login) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if o.Claims != "" { // the vault has revoked the token that we hold
		return l.acquire(ctx, o.Claims)
	}
	l.mu.Lock()
	token, tried, failed := l.token, l.tried, l.failed
	l.mu.Unlock()

	now := l.now()
	usable := now.Before(token.ExpiresOn.Add(-lastUse))
	switch {
	case usable && now.Before(renewal(token)):
		return token, nil
	case usable && now.Before(tried.Add(refreshPause)):
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

// holdsToken says whether there is a token from an earlier login.
func (l *login) holdsToken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token.Token != ""
}

// renewal is when a token is due: when the authority says, else some time before its end.
func renewal(t azcore.AccessToken) time.Time {
	if !t.RefreshOn.IsZero() {
		return t.RefreshOn
	}
	return t.ExpiresOn.Add(-refreshBefore)
}

// acquire waits for a new token, at most as long as ctx lasts.
func (l *login) acquire(ctx context.Context, claims string) (azcore.AccessToken, error) {
	select {
	case result := <-l.start(ctx, claims):
		if result.Err != nil {
			return azcore.AccessToken{}, result.Err
		}
		return result.Val.(azcore.AccessToken), nil
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
}

// start asks for a new token, or joins those who wait for one.
func (l *login) start(ctx context.Context, claims string) <-chan singleflight.Result {
	return l.flight.DoChan(claims, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
		defer cancel()
		token, err := l.ask(ctx, claims)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tried, l.failed = l.now(), err
		if err == nil {
			l.token = token
		}
		return token, err
	})
}

// ask makes attempts until one is not throttled, or until the authority wants to be left alone for longer than there is
// time: then what it said last is the answer, without a request.
func (l *login) ask(ctx context.Context, claims string) (token azcore.AccessToken, err error) {
	end := l.now().Add(sharedTimeout)
	for throttled := true; throttled; {
		wait, reason := l.shut()
		if wait > end.Sub(l.now()) {
			return token, reason
		}
		if wait > 0 {
			select {
			case <-l.after(wait):
			case <-ctx.Done():
				return token, reason
			}
		}
		token, throttled, err = l.attempt(ctx, claims)
	}
	return token, err
}

// shut says for how long no request is sent, and why.
func (l *login) shut() (wait time.Duration, reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until.Sub(l.now()), l.refused
}

// throttled says why a token is still to come after the authority has throttled; nil when it is not that.
func (l *login) throttled() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.strikes == 0 && !l.now().Before(l.until) {
		return nil
	}
	return l.refused
}

// attempt asks once. Its error is reduced.
func (l *login) attempt(ctx context.Context, claims string) (token azcore.AccessToken, throttled bool, err error) {
	ctx, seen := withOutcome(withoutAnswers(ctx))
	err = guarded(func() (err error) {
		token, err = l.inner.GetToken(ctx, policy.TokenRequestOptions{
			Scopes: l.scopes, TenantID: l.tenant, Claims: claims, EnableCAE: true,
		})
		return err
	})
	if err != nil {
		err = reduced(err, seen)
	}
	if said, ok := errors.AsType[*answer](err); ok {
		said.entra = true // also where only the status was seen
		_, said.metadata = l.inner.(*metadataCredential)
	}
	if l.counted != nil {
		l.counted(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	pause, named, throttled := seen.throttled()
	if throttled = throttled && err != nil; !throttled {
		l.strikes = 0
		return token, false, err
	}
	if l.strikes++; !named || l.strikes > 1 {
		pause = max(pause, backOff(l.strikes))
	}
	l.until, l.refused = l.now().Add(spaced(pause)), err
	return token, true, err
}
