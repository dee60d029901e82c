package keyvault

import (
	"context"
	"errors"
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

// A panic in the SDK is an error without the panic's value.
func TestGuarded(t *testing.T) {
	t.Parallel()
	if err := guarded(func() error { panic("the secret") }); !errors.Is(err, errPanic) {
		t.Errorf("got %v", err)
	}
}
