package devcloud

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// serveProxy connects CONNECT requests for the names of the cloud to its TLS listener, so that a client with HTTPS_PROXY
// reaches it under the real names. It refuses anything else with 403.
//
// A vault that does not exist fails in Azure's DNS, for which a proxy answers 502. The status line has the text of a
// failed look-up, because Go's client shows it as the error.
func (c *Cloud) serveProxy(w http.ResponseWriter, r *http.Request) {
	entry := c.record(ServiceProxy, r)
	status, reason := c.connectable(r)
	if f := c.faultFor(entry, r); f != nil {
		if failed := f.connect(r); failed != 0 {
			status, reason = failed, http.StatusText(failed)
		}
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2 without TLS, which the server does not support
		http.Error(w, "CONNECT needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	defer func() { _ = client.Close() }()
	var backend net.Conn
	if status == http.StatusOK {
		if backend, err = new(net.Dialer).DialContext(r.Context(), "tcp", c.TLSAddr()); err != nil {
			status, reason = http.StatusBadGateway, err.Error()
		} else {
			defer func() { _ = backend.Close() }()
		}
	}
	c.answered(entry, status)
	length := "Content-Length: 0\r\nConnection: close\r\n"
	if status == http.StatusOK {
		length = "" // RFC 9110, section 9.3.6: none after a successful CONNECT
	}
	if _, err := fmt.Fprintf(client, "HTTP/1.1 %d %s\r\n%s\r\n", status, reason, length); err == nil && backend != nil {
		c.join(client, buffered, backend)
	}
}

// connect applies a fault to a CONNECT request. 0 means that the request goes on.
func (f *activeFault) connect(r *http.Request) (status int) {
	if f.Delay > 0 && !f.wait(r.Context(), f.Delay) {
		panic(http.ErrAbortHandler)
	}
	switch f.Action {
	case Throttle, Fail:
		return f.status()
	case Hang:
		f.wait(r.Context(), 0)
		panic(http.ErrAbortHandler)
	case Reset:
		resetConnection(r)
		panic(http.ErrAbortHandler)
	default:
		return 0
	}
}

func (c *Cloud) connectable(r *http.Request) (status int, reason string) {
	host, port, err := net.SplitHostPort(strings.ToLower(r.Host))
	_, login := c.loginNation(host)
	_, vault := c.vaultNation(host)
	switch {
	case r.Method != http.MethodConnect, err != nil, port != "443", !login && !vault:
		return http.StatusForbidden, "Forbidden: only CONNECT to port 443 of vaults and login hosts"
	}
	if err := c.resolves(host); err != nil {
		return http.StatusBadGateway, err.Error()
	}
	return http.StatusOK, "Connection established"
}

// join copies in both directions until one side ends. It passes a reset of the backend on to the client.
func (c *Cloud) join(client net.Conn, buffered io.Reader, backend net.Conn) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.tunnels[client] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.tunnels, client)
		c.mu.Unlock()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(backend, buffered)
		_ = backend.Close()
	}()
	if _, err := io.Copy(client, backend); errors.Is(err, syscall.ECONNRESET) {
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	_ = client.Close()
	<-done
}
