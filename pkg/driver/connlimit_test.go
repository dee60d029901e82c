package driver

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// With too many connections the oldest is closed, and a new one is answered.
func TestConnLimiter(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limiter := &connLimiter{}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
		ReadHeaderTimeout: time.Minute,
		ConnState:         limiter.track,
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	address := l.Addr().String()
	const more = 20
	held := make([]net.Conn, 0, maxConns+more)
	var dialer net.Dialer
	for range maxConns + more {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	ask := func() {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: suite.Patience}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	ask()
	for i, conn := range held[:more] { // these have been closed; those that are not would keep the test until its end
		_ = conn.SetReadDeadline(time.Now().Add(suite.Patience))
		if _, err := io.ReadAll(conn); isTimeout(err) {
			t.Fatalf("connection %d, one of the oldest, is still open", i)
		}
	}
	newest := held[len(held)-1]
	_ = newest.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := newest.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("the newest connection ended, too: %v", err)
	}
	for _, conn := range held {
		_ = conn.Close()
	}
	ask()
	_ = server.Close()
	<-done
	await(t, "the connections to be forgotten", func() bool {
		limiter.mu.Lock()
		defer limiter.mu.Unlock()
		return len(limiter.conns) == 0
	})
}

// One client that opens connections without end cannot close those of others. Else it could keep the kubelet's probe from an answer, and the
// kubelet would restart the driver.
func TestConnLimiterSparesOthers(t *testing.T) {
	t.Parallel()
	limiter := &connLimiter{}
	open := func(peer byte) *peerConn {
		conn := &peerConn{peer: net.IPv4(10, 0, 0, peer)}
		limiter.track(conn, http.StateNew)
		return conn
	}
	flood := []*peerConn{open(66)}
	kubelet, prometheus := open(1), open(2)
	for range 2 * maxConns {
		flood = append(flood, open(66))
	}
	if kubelet.closed || prometheus.closed {
		t.Error("a connection of another client was closed")
	}
	for i, conn := range flood {
		if want := i < len(flood)-(maxConns-2); conn.closed != want {
			t.Fatalf("connection %d of %d: closed %t, want %t", i, len(flood), conn.closed, want)
		}
	}
}

// peerConn is a connection of a client.
type peerConn struct {
	net.Conn

	peer   net.IP
	closed bool
}

func (c *peerConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.peer} }
func (c *peerConn) Close() error         { c.closed = true; return nil }

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error) //nolint:errorlint // of a connection, as it is
	return ok && timeout.Timeout()
}
