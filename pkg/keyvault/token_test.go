package keyvault

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// pass lets time go by in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

// authority is a credential that counts and does as it is told.
type authority struct {
	mu    sync.Mutex
	calls int
	err   error
	hang  time.Duration
	life  time.Duration
}

func (a *authority) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	a.mu.Lock()
	a.calls++
	err, hang, life := a.err, a.hang, a.life
	a.mu.Unlock()
	select {
	case <-time.After(hang):
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(life)}, err
}

func (a *authority) set(f func(*authority)) { a.mu.Lock(); defer a.mu.Unlock(); f(a) }

func (a *authority) called(t *testing.T, want int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls != want {
		t.Errorf("the authority was asked %d times, want %d", a.calls, want)
	}
}

func TestLoginRefreshes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{life: time.Hour}
		l := &login{inner: a, now: time.Now}
		get := func() error { _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); return err }
		for range 3 {
			if err := get(); err != nil {
				t.Fatal(err)
			}
		}
		a.called(t, 1)
		pass(55*time.Minute + time.Second)
		a.set(func(a *authority) { a.err = errors.New("down"); a.hang = 10 * time.Second })
		began := time.Now()
		for range 3 { // due, but still good: nobody waits, and one attempt is enough
			if err := get(); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(began) > 0 {
			t.Error("waited for a refresh although the token is good")
		}
		pass(11 * time.Second)
		a.called(t, 2)
		if err := get(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		a.called(t, 2) // not yet again
		pass(5 * time.Minute)
		if err := get(); err == nil {
			t.Error("an expired token is given out")
		}
		a.set(func(a *authority) { a.err = nil })
		pass(failedLogin)
		if err := get(); err != nil {
			t.Error(err)
		}
	})
}

func TestLoginFailsOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{err: errors.New("no"), hang: time.Second}
		l := &login{inner: a, now: time.Now}
		var waiting sync.WaitGroup
		for range 50 {
			waiting.Go(func() {
				if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); err == nil {
					t.Error("no error")
				}
			})
		}
		waiting.Wait()
		if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); err == nil {
			t.Error("no error")
		}
		a.called(t, 1)
		pass(failedLogin)
		_, _ = l.GetToken(t.Context(), policy.TokenRequestOptions{})
		a.called(t, 2)
	})
}

// The first caller's context ends; those who wait with it are served all the same. And nobody waits for ever.
func TestLoginOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{life: time.Hour, hang: 10 * time.Second}
		l := &login{inner: a, now: time.Now}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() { _, err := l.GetToken(ctx, policy.TokenRequestOptions{}); first <- err }()
		synctest.Wait()
		if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); err != nil {
			t.Error(err)
		}
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		a.called(t, 1)

		a.set(func(a *authority) { a.hang = time.Hour })
		began := time.Now()
		if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{Claims: "revoked"}); err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took != sharedTimeout {
			t.Errorf("waited %v, want %v", took, sharedTimeout)
		}
	})
}

// throttling is a credential whose authority answers 429 with these headers, one after the other, and then gives tokens.
type throttling struct {
	began time.Time
	hang  time.Duration

	mu       sync.Mutex
	refusals []http.Header
	asked    []time.Duration // since began
}

// then refuses the next attempts as well, and gives the times of those that were made.
func (a *throttling) then(refusals ...http.Header) (asked []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusals = append(a.refusals, refusals...)
	return slices.Clone(a.asked)
}

func (a *throttling) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	a.mu.Lock()
	a.asked = append(a.asked, time.Since(a.began))
	a.mu.Unlock()
	pass(a.hang)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.refusals) == 0 {
		return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
	}
	header := a.refusals[0]
	a.refusals = a.refusals[1:]
	req := &http.Request{URL: &url.URL{Scheme: "https", Host: "login.microsoftonline.com"}}
	note(req.WithContext(ctx), refusedWith(http.StatusTooManyRequests, header), nil)
	return azcore.AccessToken{}, &answer{entra: true, status: http.StatusTooManyRequests}
}

// An authority that throttles is not asked before the time that it names, by nobody who wants the token. Who has the time
// waits for it; who has not is told at once.
func TestAThrottledAuthorityIsLeftAlone(t *testing.T) {
	t.Parallel()
	seconds := func(n string) http.Header { return http.Header{"Retry-After": {n}} }
	for _, test := range []struct {
		name     string
		refusals []http.Header
		asked    []time.Duration // at least; each is at most a tenth of its pause later
		failures int             // of logins tried every second until one works
	}{
		{"soon", []http.Header{seconds("5")}, []time.Duration{0, 5 * time.Second}, 0},
		{"twice", []http.Header{seconds("5"), seconds("20")}, []time.Duration{0, 5 * time.Second, 25 * time.Second}, 0},
		{"late", []http.Header{seconds("90")}, []time.Duration{0, 90 * time.Second}, 60},
		{"without a time", []http.Header{{}, {}, {}}, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, 0},
		{"with less and less patience", []http.Header{seconds("1"), seconds("1"), seconds("1")},
			[]time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &throttling{refusals: test.refusals, began: time.Now()}
			l := &login{inner: a, now: time.Now, after: time.After}
			failures := 0
			for ; ; failures++ {
				var waiting sync.WaitGroup
				errs := make([]error, 20)
				for i := range errs {
					waiting.Go(func() { _, errs[i] = l.GetToken(t.Context(), policy.TokenRequestOptions{}) })
				}
				waiting.Wait()
				if errs[0] == nil {
					break
				}
				var refused *answer
				if !errors.As(errs[0], &refused) || refused.status != http.StatusTooManyRequests || failures > 2*test.failures {
					t.Fatalf("%s: %d logins failed, the last because of %v", test.name, failures+1, errs[0])
				}
				pass(failedLogin)
			}
			if failures < test.failures || test.failures == 0 && failures > 0 {
				t.Errorf("%s: %d logins failed, want %d", test.name, failures, test.failures)
			}
			asked := a.then()
			if len(asked) != len(test.asked) {
				t.Fatalf("%s: asked %v after the beginning, want %v", test.name, asked, test.asked)
			}
			for i, at := range asked {
				if at < test.asked[i] || at > test.asked[i]*11/10+time.Second {
					t.Errorf("%s: asked %v after the beginning, want %v", test.name, asked, test.asked)
				}
			}
		})
	}
}

// A token that is good goes on being given out while the authority throttles its renewal.
func TestAThrottledRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &throttling{began: time.Now()}
		l := &login{inner: a, now: time.Now, after: time.After}
		for i := range 70 { // minutes
			began := time.Now()
			if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); err != nil || time.Since(began) > 0 {
				t.Errorf("after %v: %v, waited %v", time.Since(a.began), err, time.Since(began))
			}
			if i == 0 {
				a.then(http.Header{"Retry-After": {"120"}})
			}
			pass(time.Minute)
		}
		if asked := a.then(); len(asked) != 3 || asked[2]-asked[1] < 2*time.Minute {
			t.Errorf("asked %v after the beginning, want the renewal two minutes after its refusal", asked)
		}
	})
}

// A panic in the SDK is an error without the panic's value.
func TestGuarded(t *testing.T) {
	t.Parallel()
	if err := guarded(func() error { panic("the secret") }); !errors.Is(err, errPanic) {
		t.Errorf("got %v", err)
	}
}
