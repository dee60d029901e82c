package azure

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConnectionsAreReused sends waves of 100 concurrent requests, as when many objects are due together. No wave opens more
// connections than ConnsPerHost, and later waves reuse them. With HTTP/1.1 the SDK's own client would open about 90 new
// connections for each wave.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	for proto, http2 := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			const wave = 100
			var opened atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Proto != proto {
					t.Errorf("asked by %s", r.Proto)
				}
				_, _ = io.WriteString(w, "{}")
			}))
			server.EnableHTTP2 = http2
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			}
			server.StartTLS()
			t.Cleanup(server.Close)
			s := senderFor(t, server)
			for range 5 {
				var group sync.WaitGroup
				for range wave {
					group.Go(func() {
						resp, err := get(t.Context(), t, s, server.URL)
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					})
				}
				group.Wait()
			}
			// A dial may end after another connection has become free. Then a surplus one is closed and opened again later.
			if n := int(opened.Load()); n < 1 || n > 2*ConnsPerHost {
				t.Errorf("%d connections for 5 waves of %d requests, want at most %d", n, wave, 2*ConnsPerHost)
			}
		})
	}
}

// idle counts how often the idle connections are closed.
type idle struct {
	http.RoundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

// Connections are closed every five minutes, also if they are used all the time, so that DNS is asked again: a vault may have got a private
// endpoint.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	transport := &idle{}
	s := &Sender{HTTP: &http.Client{Transport: transport}}
	now := time.Now()
	for i, step := range []struct {
		later  time.Duration
		closed int
	}{{0, 1}, {2 * time.Minute, 1}, {2 * time.Minute, 1}, {time.Minute, 2}, {4 * time.Minute, 2}, {time.Minute, 3}} {
		now = now.Add(step.later)
		if s.Tidy(now); transport.closed != step.closed {
			t.Errorf("step %d: closed %d times, want %d", i, transport.closed, step.closed)
		}
	}
}
