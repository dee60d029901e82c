package azure

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	longPatience = time.Hour
	windowLength = 10 * time.Second
)

// limitedVault allows a number of requests in each window of ten seconds. Its Retry-After is the start of the next window.
type limitedVault struct {
	running atomic.Int64

	mu        sync.Mutex
	allowed   int // in a window
	used      int // of the window
	window    time.Time
	notBefore time.Time // that the last refusal named
	early     int       // requests before that
	refused   int
	most      int64 // concurrent requests
}

func (v *limitedVault) answer() *http.Response {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if now.Before(v.notBefore) {
		v.early++
	}
	if now.Sub(v.window) >= windowLength {
		v.window, v.used = now, 0
	}
	if v.used++; v.used <= v.allowed {
		return responseOf(http.StatusOK, nil)
	}
	v.refused++
	v.notBefore = v.window.Add(windowLength).Truncate(time.Second)
	return responseOf(http.StatusTooManyRequests, http.Header{"Retry-After": {v.notBefore.UTC().Format(http.TimeFormat)}})
}

// call does what the transport does: it sends the request if it may be sent, and records the answer.
func (v *limitedVault) call(ctx context.Context) error {
	if reason := AttemptOf(ctx).blocked(); reason != nil {
		return reason
	}
	running := v.running.Add(1)
	defer v.running.Add(-1)
	v.mu.Lock()
	v.most = max(v.most, running)
	v.mu.Unlock()
	resp := v.answer()
	<-time.After(20 * time.Millisecond)
	return recorded(ctx, resp)
}

func responseOf(status int, header http.Header) *http.Response {
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(`{"error":{"code":"Throttled"}}`)),
		Request: &http.Request{URL: &url.URL{Scheme: "https", Host: "shop.vault.azure.net"}},
	}
}

// recorded records a response in the attempt of a call, and returns the error of the call.
func recorded(ctx context.Context, resp *http.Response) error {
	AttemptOf(ctx).record(resp.Request, resp, nil)
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &Answer{Service: Vault, Status: resp.StatusCode}
}

// All of 2000 requests to a vault that allows 500 in ten seconds succeed, within 5/4 of the ideal time. None is sent before
// Retry-After, except those that are in flight when it arrives. The limit of concurrent requests holds.
func TestThrottledVault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vault := &limitedVault{allowed: 500, window: time.Now()}
		throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
		began := time.Now()
		var callers sync.WaitGroup
		for range 2000 {
			callers.Go(func() {
				if err := throttle.Do(t.Context(), longPatience, vault.call); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if took, ideal := time.Since(began), 30*time.Second; took < ideal || took > ideal*5/4 {
			t.Errorf("took %v, ideal would be %v", took, ideal)
		}
		if vault.early > vault.refused || vault.refused > 4*ConnsPerHost || vault.early > 3*ConnsPerHost {
			t.Errorf("%d requests refused, %d before their time", vault.refused, vault.early)
		}
		if vault.most > ConnsPerHost {
			t.Errorf("%d requests at the same time, want at most %d", vault.most, ConnsPerHost)
		}
		if throttle.running != 0 || throttle.left != nil || throttle.limit != ConnsPerHost {
			t.Errorf("left: %d running, limit %d", throttle.running, throttle.limit)
		}
	})
}

// After Retry-After one request is sent first. With each success the number of concurrent requests grows by one.
func TestAThrottleOpensSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
		began := time.Now()
		var mu sync.Mutex
		var sent []time.Duration // after the throttle had closed
		var callers sync.WaitGroup
		for i := range 50 {
			callers.Go(func() {
				calls := 0
				err := throttle.Do(t.Context(), longPatience, func(ctx context.Context) error {
					if calls++; i == 0 && calls == 1 {
						return recorded(ctx, responseOf(http.StatusServiceUnavailable, http.Header{"Retry-After": {"5"}}))
					}
					mu.Lock()
					sent = append(sent, time.Since(began))
					mu.Unlock()
					<-time.After(100 * time.Millisecond)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		callers.Wait()
		if len(sent) != 50 {
			t.Fatalf("%d calls after the throttle closed, want 50", len(sent))
		}
		if sent[0] < 5*time.Second || sent[0] > 5500*time.Millisecond {
			t.Errorf("the first after %v, want 5s and up to a tenth more", sent[0])
		}
		for i, want := range []int{1, 2, 4, 8, 16, 16} { // requests in each tenth of a second
			count := 0
			for _, at := range sent {
				if at >= sent[0]+time.Duration(i)*100*time.Millisecond && at < sent[0]+time.Duration(i+1)*100*time.Millisecond {
					count++
				}
			}
			if count > want || i < 4 && count != want {
				t.Errorf("round %d: %d requests, want %d", i, count, want)
			}
		}
	})
}

// A vault that refuses a request has processed it: it no longer throttles.
func TestARefusalOpensAThrottle(t *testing.T) {
	t.Parallel()
	refusal := func(status int) func(context.Context) error {
		return func(ctx context.Context) error { return recorded(ctx, responseOf(status, nil)) }
	}
	for name, test := range map[string]struct {
		call func(context.Context) error
		open bool
	}{
		"404": {refusal(http.StatusNotFound), true},
		"403": {refusal(http.StatusForbidden), true},
		"401": {refusal(http.StatusUnauthorized), true},
		"500": {refusal(http.StatusInternalServerError), false},
		"the login is refused, and nothing sent": {func(context.Context) error {
			return &Answer{Service: Entra, Status: http.StatusUnauthorized}
		}, false},
		"no sense in the answer": {func(context.Context) error { return ErrStrange }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
			calls := 0
			call := func(ctx context.Context) error {
				if calls++; calls == 1 {
					return recorded(ctx, responseOf(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}))
				}
				return test.call(ctx)
			}
			for range 2 * ConnsPerHost {
				if err := throttle.Do(t.Context(), longPatience, call); err == nil {
					t.Fatal("no error")
				}
			}
			if reason := throttle.Throttled(); (reason == nil) != test.open || (throttle.limit == ConnsPerHost) != test.open {
				t.Errorf("%s: limit %d, throttled: %v; want open %t", name, throttle.limit, reason, test.open)
			}
		})
	}
}

// A vault that throttles without Retry-After, or repeats one second, is asked less and less often.
func TestBackOff(t *testing.T) {
	t.Parallel()
	for _, header := range []http.Header{{}, {"Retry-After": {"1"}}} {
		synctest.Test(t, func(t *testing.T) {
			throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			began := time.Now()
			var calls []time.Duration
			err := throttle.Do(ctx, longPatience, func(ctx context.Context) error {
				calls = append(calls, time.Since(began))
				return recorded(ctx, responseOf(http.StatusTooManyRequests, header))
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v: %v", header, err)
			}
			seconds := []int{1, 2, 4, 8, 16, 30}
			if len(calls) <= len(seconds) {
				t.Fatalf("%v: %d calls in two minutes", header, len(calls))
			}
			for i, n := range seconds {
				pause, want := calls[i+1]-calls[i], time.Duration(n)*time.Second
				if pause < want || pause > want+max(want/10, 100*time.Millisecond) {
					t.Errorf("%v: pause %d is %v, want %v and up to a tenth more", header, i, pause, want)
				}
			}
			if reason, ok := errors.AsType[*Answer](throttle.Throttled()); !ok || reason.Status != http.StatusTooManyRequests {
				t.Errorf("the reason is %v", throttle.Throttled())
			}
		})
	}
}

// A caller that gives up waiting takes no slot.
func TestGivingUpTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
		var callers sync.WaitGroup
		for i := range 500 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%7)*10*time.Millisecond)
				defer cancel()
				err := throttle.Do(ctx, longPatience, func(ctx context.Context) error {
					select {
					case <-time.After(10 * time.Millisecond):
						return nil
					case <-ctx.Done():
						AttemptOf(ctx).record(responseOf(0, nil).Request, nil, ctx.Err())
						return ctx.Err()
					}
				})
				if _, unreached := errors.AsType[*Unreached](err); err != nil && !unreached && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if throttle.running != 0 || throttle.limit != ConnsPerHost {
			t.Errorf("%d running and limit %d after all have ended", throttle.running, throttle.limit)
		}
	})
}
