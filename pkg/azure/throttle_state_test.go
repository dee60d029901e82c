package azure

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A caller that would wait for longer than its patience gets the last answer at once. Other callers are not refused.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
		began := time.Now()
		calls := 0
		do := func(patience time.Duration) error {
			return throttle.Do(t.Context(), patience, func(ctx context.Context) error {
				if calls++; calls == 1 {
					return recorded(ctx, responseOf(http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}))
				}
				return nil
			})
		}
		for range 2 {
			if answer, ok := errors.AsType[*Answer](do(30 * time.Second)); !ok || answer.Status != http.StatusTooManyRequests {
				t.Errorf("%v, want HTTP 429", answer)
			}
		}
		if took := time.Since(began); took != 0 || calls != 1 {
			t.Errorf("%d calls, waited %v; want 1 and no wait", calls, took)
		}
		if err := do(2 * time.Minute); err != nil || time.Since(began) < time.Minute || calls != 2 {
			t.Errorf("%v, %d calls after %v; want 2 after a minute", err, calls, time.Since(began))
		}
	})
}

// Waiting callers see that the throttle has closed, and for how long.
func TestState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, nil)
		wait, changed, reason := throttle.State()
		if wait != 0 || reason != nil || !throttle.Unused() {
			t.Errorf("new: %v, %v, unused %t", wait, reason, throttle.Unused())
		}
		_ = throttle.Do(t.Context(), 0, func(ctx context.Context) error {
			return recorded(ctx, responseOf(http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}))
		})
		select {
		case <-changed:
		default:
			t.Error("it is not said that the throttle has closed")
		}
		if wait, _, reason = throttle.State(); wait < time.Minute || wait > 67*time.Second || reason == nil || throttle.Unused() {
			t.Errorf("closed: %v, %v, unused %t", wait, reason, throttle.Unused())
		}
		<-time.After(wait)
		if wait, _, reason = throttle.State(); wait != 0 || reason != nil || throttle.Throttled() == nil {
			t.Errorf("after its time: %v, %v, and %v for those that still wait", wait, reason, throttle.Throttled())
		}
		for range ConnsPerHost {
			_ = throttle.Do(t.Context(), 0, func(context.Context) error { return nil })
		}
		if err := throttle.Throttled(); err != nil || throttle.Unused() || throttle.Rate() == 0 {
			t.Errorf("after successes: %v, unused %t, %.1f a second", err, throttle.Unused(), throttle.Rate())
		}
		for began := time.Now(); !throttle.Unused() && time.Since(began) < 5*time.Minute; {
			_ = throttle.Do(t.Context(), 0, func(context.Context) error { return nil })
		}
		if rate := throttle.Rate(); rate != 0 || !throttle.Unused() {
			t.Errorf("after five minutes of successes: %.1f a second, unused %t", rate, throttle.Unused())
		}
	})
}
