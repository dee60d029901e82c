package login

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

// authority is a credential that counts its calls. Each call takes the time hang, and ends with err or a token that
// lasts for life.
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
		l := newLogin(t, a)
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
		for range 3 { // due, but still valid: no caller waits, and one request is enough
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
		a.called(t, 2) // not due again yet
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
		l := newLogin(t, a)
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

// When the context of the first caller ends, the other callers still get the token. No caller waits without limit.
func TestLoginOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{life: time.Hour, hang: 10 * time.Second}
		l := newLogin(t, a)
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

// throttlingAuthority is a credential whose authority answers 429 with each of these headers in turn, and then issues
// tokens.
type throttlingAuthority struct {
	began  time.Time
	delay  time.Duration // of each answer
	sender *azure.Sender

	mu       sync.Mutex
	refusals []http.Header
	asked    []time.Duration // since began
}

func newThrottlingAuthority(delay time.Duration, refusals ...http.Header) *throttlingAuthority {
	a := &throttlingAuthority{began: time.Now(), delay: delay, refusals: refusals}
	a.sender = &azure.Sender{HTTP: &http.Client{Transport: roundTripper(a.answer)}}
	return a
}

// then refuses the next requests too, and returns the times of those that were made.
func (a *throttlingAuthority) then(refusals ...http.Header) (asked []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusals = append(a.refusals, refusals...)
	return slices.Clone(a.asked)
}

func (a *throttlingAuthority) answer(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.asked = append(a.asked, time.Since(a.began))
	a.mu.Unlock()
	pass(a.delay)
	a.mu.Lock()
	defer a.mu.Unlock()
	resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}
	if len(a.refusals) > 0 {
		resp.StatusCode, resp.Header = http.StatusTooManyRequests, a.refusals[0]
		a.refusals = a.refusals[1:]
	}
	return resp, nil
}

func (a *throttlingAuthority) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://login.microsoftonline.com", http.NoBody)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	resp, err := a.sender.Do(req)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		return azcore.AccessToken{}, azure.LoginAnswer(azure.Entra, resp)
	}
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// An authority that throttles is not asked before its Retry-After, however many callers need the token. They wait if
// the pause is short enough, and fail at once otherwise.
func TestAThrottlingAuthorityIsNotAsked(t *testing.T) {
	t.Parallel()
	seconds := func(n string) http.Header { return http.Header{"Retry-After": {n}} }
	for _, test := range []struct {
		name     string
		refusals []http.Header
		asked    []time.Duration // minimum; each is at most a tenth of its pause later
		failures int             // of logins tried every second until one succeeds
	}{
		{"soon", []http.Header{seconds("5")}, []time.Duration{0, 5 * time.Second}, 0},
		{"twice", []http.Header{seconds("5"), seconds("20")}, []time.Duration{0, 5 * time.Second, 25 * time.Second}, 0},
		{"late", []http.Header{seconds("90")}, []time.Duration{0, 90 * time.Second}, 60},
		{"without a time", []http.Header{{}, {}, {}}, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, 0},
		{"the same time again and again", []http.Header{seconds("1"), seconds("1"), seconds("1")},
			[]time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := newThrottlingAuthority(0, test.refusals...)
			l := newLogin(t, a)
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
				var refused *azure.Answer
				if !errors.As(errs[0], &refused) || refused.Status != http.StatusTooManyRequests || failures > 2*test.failures {
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

// A valid token is still returned while the authority throttles its renewal.
func TestAThrottledRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newThrottlingAuthority(0)
		l := newLogin(t, a)
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
