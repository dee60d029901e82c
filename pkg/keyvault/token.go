package keyvault

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/singleflight"
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
	tenant   string
	scopes   []string
	host     string // of the authority
	inner    azcore.TokenCredential
	now      func() time.Time
	after    func(time.Duration) <-chan time.Time
	counted  func(error) // each attempt, with its reduced error; may be nil
	proofs   *proofs     // of the pods that share a workload identity
	flight   singleflight.Group
	rejected bool // a vault has not accepted the token; guarded by Client.mu

	mu      sync.Mutex
	token   azcore.AccessToken
	tried   time.Time
	failed  error         // of the last attempt; an answer or unreached
	until   time.Time     // no request before
	refused error         // and why
	strikes int           // times that attempts were throttled, without another between them
	strike  int           // counts all of them
	inside  int           // attempts under way
	left    chan struct{} // closed when one of them has ended; nil when nobody waits for that
}

// succeed takes over from a login that a vault has rejected: what is not of its token.
func (l *login) succeed(before *login) {
	before.mu.Lock()
	defer before.mu.Unlock()
	l.proofs = before.proofs
	l.until, l.refused, l.strikes = before.until, before.refused, before.strikes
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
		token, err := l.ask(ctx, claims, func() error { return nil })
		l.mu.Lock()
		held := claims == "" && l.usable()
		l.tried, l.failed = l.now(), err
		if err == nil {
			l.token = token
		}
		l.mu.Unlock()
		if who, ok := proverOf(ctx); ok && err == nil {
			l.proofs.note(who.pod, nil)
		} else if ok && !held && (&failure{err: err}).refusal() { // with a good token it is only a renewal that came too early
			l.proofs.dropAll()
		}
		return token, err
	})
}

// usable says whether the token can still be sent. The caller holds l.mu.
func (l *login) usable() bool { return l.now().Before(l.token.ExpiresOn.Add(-lastUse)) }

// offer takes a token that a pod has got with its proof, if it lasts longer.
func (l *login) offer(token azcore.AccessToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token.ExpiresOn.After(l.token.ExpiresOn) {
		l.token, l.tried, l.failed = token, l.now(), nil
	}
}

// ask makes attempts until one is not throttled, or until the authority wants to be left alone for longer than there is
// time: then what it said last is the answer, without a request. stop says why one whose turn has come need not be made.
func (l *login) ask(ctx context.Context, claims string, stop func() error) (token azcore.AccessToken, err error) {
	end := l.now().Add(sharedTimeout)
	for throttled := true; throttled; {
		if err := l.enter(ctx, end); err != nil {
			return token, err
		}
		if err := stop(); err != nil {
			l.mu.Lock()
			l.leave()
			l.mu.Unlock()
			return token, err
		}
		token, throttled, err = l.attempt(ctx, claims)
	}
	return token, err
}

// enter waits until a request may be sent: not before the time that the authority has named, then one alone, and when
// that was not throttled proofsAtOnce. The error is what the authority said last, if it throttles.
func (l *login) enter(ctx context.Context, end time.Time) error {
	for {
		l.mu.Lock()
		wait, reason := l.until.Sub(l.now()), l.refused
		if wait <= 0 && l.strikes == 0 {
			reason = nil
		}
		free := l.inside < proofsAtOnce && (l.strikes == 0 || l.inside == 0)
		if wait <= 0 && free {
			l.inside++
			l.mu.Unlock()
			return nil
		}
		if l.left == nil {
			l.left = make(chan struct{})
		}
		left := l.left
		l.mu.Unlock()
		if wait > end.Sub(l.now()) {
			return reason
		}
		var over <-chan time.Time
		if wait > 0 {
			over, left = l.after(wait), nil
		}
		select {
		case <-over:
		case <-left:
		case <-ctx.Done():
			if reason == nil {
				reason = newUnreached(l.host, ctx.Err())
			}
			return reason
		}
	}
}

// leave ends an attempt. The caller holds l.mu.
func (l *login) leave() {
	l.inside--
	if l.left != nil {
		close(l.left)
		l.left = nil
	}
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
	l.mu.Lock()
	strike := l.strike
	l.mu.Unlock()
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
	defer l.leave()
	pause, named, throttled := seen.throttled()
	current := strike == l.strike // those that were on their way together are one strike together, or none
	if throttled = throttled && err != nil; !throttled {
		if current {
			l.strikes = 0
		}
		return token, false, err
	}
	if current {
		l.strike++
		l.strikes++
	}
	if !named || l.strikes > 1 {
		pause = max(pause, backOff(l.strikes))
	}
	if until := l.now().Add(spaced(pause)); until.After(l.until) {
		l.until = until
	}
	l.refused = err
	return token, true, err
}
