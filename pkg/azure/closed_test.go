package azure

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// throttledAnswer is what the transport records of a 429 with a Retry-After in seconds.
func throttledAnswer(ctx context.Context, seconds string) {
	req := &http.Request{URL: &url.URL{Scheme: "https", Host: "login.example.com"}}
	AttemptOf(ctx).record(req, &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {seconds}}}, nil)
}

func isThrottled(t *testing.T, what string, err error) {
	t.Helper()
	if answer, ok := errors.AsType[*Answer](err); !ok || answer.Status != http.StatusTooManyRequests || answer.Service != Entra {
		t.Errorf("%s: %v, want HTTP 429 of Entra ID", what, err)
	}
}

// A throttling answer closes the throttle as soon as its header has arrived. It becomes the reason of State when its body
// was read or breaks. No caller waits longer than its patience.
func TestTheReasonOfAClosedThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Entra, 16, time.Now, time.After, nil)
		began := time.Now()
		_, changed, _ := throttle.State()
		err := throttle.Do(t.Context(), time.Second, func(ctx context.Context) error {
			throttledAnswer(ctx, "60")
			if wait, _, reason := throttle.State(); wait == 0 || reason != nil {
				t.Errorf("before the body is read: closed for %v, reason %v; want no reason, which would lack its code", wait, reason)
			}
			isThrottled(t, "another call", throttle.Do(t.Context(), time.Second, func(context.Context) error {
				t.Error("a call through a closed throttle")
				return nil
			}))
			req := &http.Request{URL: &url.URL{Host: "login.example.com"}}
			AttemptOf(ctx).record(req, nil, io.ErrUnexpectedEOF)
			return io.ErrUnexpectedEOF
		})
		isThrottled(t, "the call whose answer breaks", err)
		select {
		case <-changed:
		default:
			t.Error("those who wait do not learn that the throttle has closed")
		}
		isThrottled(t, "the reason", throttle.Throttled())
		_, _, reason := throttle.State()
		isThrottled(t, "the reason for those who wait", reason)
		if time.Since(began) > 0 {
			t.Errorf("waited %v for a service that is not to be asked for longer than there is time", time.Since(began))
		}
	})
}

// A call whose request was blocked does not change the reason, even if it replaces the error as the SDK does. A call that
// sends nothing does not open the throttle.
func TestACallThatSendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Entra, 16, time.Now, time.After, nil)
		err := throttle.Do(t.Context(), time.Second, func(ctx context.Context) error {
			req := &http.Request{URL: &url.URL{Host: "login.example.com"}}
			AttemptOf(ctx).record(req, &http.Response{StatusCode: http.StatusOK}, nil)
			isThrottled(t, "another call", throttle.Do(t.Context(), time.Second, func(ctx context.Context) error {
				throttledAnswer(ctx, "60")
				return &Answer{Service: Entra, Status: http.StatusTooManyRequests}
			}))
			isThrottled(t, "a request through the closed throttle", AttemptOf(ctx).blocked())
			return errors.New("the SDK keeps the text alone")
		})
		isThrottled(t, "the call that was cut off", err)
		<-time.After(time.Hour)
		_ = throttle.Do(t.Context(), time.Second, func(context.Context) error {
			return &Answer{Service: Entra, Status: http.StatusBadRequest}
		})
		isThrottled(t, "after a call without a request", throttle.Throttled())
	})
}
