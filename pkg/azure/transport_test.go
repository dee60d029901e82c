package azure

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

// newServer starts a TLS server and returns a sender that trusts it.
func newServer(t *testing.T, handler http.HandlerFunc) (*Sender, string) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return senderFor(t, server), server.URL
}

func senderFor(t *testing.T, server *httptest.Server) *Sender {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	s := NewSender(nil, roots, klog.Logger{})
	t.Cleanup(s.HTTP.CloseIdleConnections)
	return s
}

func get(ctx context.Context, t *testing.T, s *Sender, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.Do(req)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	asked := 0
	s, url := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	resp, err := get(t.Context(), t, s, url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusFound || asked != 1 {
		t.Errorf("HTTP %d after %d requests", resp.StatusCode, asked)
	}
}

func TestOnlyHTTPS(t *testing.T) {
	t.Parallel()
	s, url := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	if _, err := get(t.Context(), t, s, strings.Replace(url, "https", "http", 1)); err == nil {
		t.Error("no error")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]error{maxBody: nil, maxBody + 1: errBodyTooLarge} {
		s, url := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
		resp, err := get(t.Context(), t, s, url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !errors.Is(err, want) || want == nil && len(body) != size {
			t.Errorf("%d bytes: read %d, %v", size, len(body), err)
		}
	}
}

// A failure to read the body is recorded in the attempt: the SDK's errors keep only the text of a transport error.
func TestABodyThatIsTooLargeIsRecorded(t *testing.T) {
	t.Parallel()
	s, url := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxBody+1)) })
	err := NewThrottle(Vault, 1, time.Now, time.After, nil).Do(t.Context(), time.Minute, func(ctx context.Context) error {
		resp, err := get(ctx, t, s, url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err != nil {
			return errors.New("an error of the SDK, with: " + err.Error())
		}
		return nil
	})
	if unreached, ok := errors.AsType[*Unreached](err); !ok || unreached.Why != errBodyTooLarge.Error() {
		t.Errorf("%v, want that the answer is too large", err)
	}
}

// A request whose throttle has closed since its call began is not sent. It fails with the reason of the throttle, and the call
// is repeated.
func TestAClosedThrottleSendsNothing(t *testing.T) {
	t.Parallel()
	asked := 0
	s, url := newServer(t, func(http.ResponseWriter, *http.Request) { asked++ })
	now := time.Now() // stands still until the throttle waits
	throttle := NewThrottle(Vault, 2, func() time.Time { return now }, func(d time.Duration) <-chan time.Time {
		now = now.Add(d)
		over := make(chan time.Time, 1)
		over <- now
		return over
	}, nil)
	calls, sent := 0, true
	err := throttle.Do(t.Context(), time.Minute, func(ctx context.Context) error {
		if calls++; calls == 1 { // another request was refused
			throttle.pause(0, 429, time.Millisecond, true)
		}
		resp, err := get(ctx, t, s, url)
		if err == nil {
			return resp.Body.Close()
		}
		sent = sent && Sent(err)
		if answer, ok := errors.AsType[*Answer](err); !ok || answer.Status != http.StatusTooManyRequests {
			t.Errorf("%v, want HTTP 429", err)
		}
		return err
	})
	if err != nil || calls != 2 || asked != 1 || sent {
		t.Errorf("%v; %d calls and %d requests, the first counts as sent: %t; want 2 and 1", err, calls, asked, sent)
	}
}
