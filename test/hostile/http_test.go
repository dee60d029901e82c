package hostile_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// Any pod can reach the port of health and metrics.
func TestHTTP(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	address := strings.TrimPrefix(s.HTTP, "http://")
	for name, test := range map[string]struct {
		request string
		answer  string // the beginning of the first line; empty: any, or none
	}{
		"a header of 1 MB":       {"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "HTTP/1.1 431 "},
		"10,000 headers":         {"GET /metrics HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 10_000) + "\r\n", "HTTP/1.1 431 "},
		"a path of 1 MB":         {"GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 431 "},
		"a path that climbs":     {"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 "},
		"encoded":                {"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 "},
		"pprof":                  {"GET /debug/pprof/heap HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404 "},
		"expvar":                 {"GET /debug/vars HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404 "},
		"the root":               {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404 "},
		"a method":               {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 "},
		"a proxy's":              {"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 40"},
		"an absolute URL":        {"GET http://169.254.169.254/metadata HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404 "},
		"two lengths":            {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400 "},
		"length and chunks":      {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 40"},
		"a body without an end":  {"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 500), "HTTP/1.1 405 "},
		"no Host":                {"GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		"HTTP/2":                 {preface, ""},
		"TLS":                    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""},
		"control characters":     {"GET /\x00\x1b[2J HTTP/1.1\r\nHost: \x00\r\n\r\n", "HTTP/1.1 400 "},
		"a range and a language": {"GET /metrics HTTP/1.1\r\nHost: x\r\nRange: bytes=" + strings.Repeat("0-1,", 2000) + "\r\nAccept: " + strings.Repeat("a/b;q=0.1,", 300) + "\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialHTTP(t, address)
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(suite.Patience))
			go func() { _, _ = io.WriteString(conn, test.request); _ = conn.(*net.TCPConn).CloseWrite() }()
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if !strings.HasPrefix(line, test.answer) {
				t.Errorf("answered %q, want %q", line, test.answer)
			}
			s.inputs++
			s.footprint(t)
		})
	}
	s.verdict(t, "HTTP")
}

func dialHTTP(t *testing.T, address string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Endless requests are closed, and meanwhile the kubelet's probe and Prometheus get answers.
func TestSlowHTTP(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	address := strings.TrimPrefix(s.HTTP, "http://")
	const each = 250
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 8*each {
		t.Skipf("this process may have %d open files (%v); the test needs %d", limit.Cur, err, 8*each)
	}
	var held []net.Conn
	for _, say := range []string{"", "GET /met", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"} {
		for range each {
			conn := dialHTTP(t, address)
			_, _ = io.WriteString(conn, say)
			held = append(held, conn)
		}
	}
	suite.Eventually(t, "the oldest connections are closed", func() bool { return s.footprint(t).Descriptors <= s.before.Descriptors+300 })
	for _, path := range []string{"/healthz", "/metrics"} {
		request, err := http.NewRequestWithContext(suite.Context(t), http.MethodGet, s.HTTP+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s while %d connections are held: %v, %v", path, len(held), response, err)
		} else {
			_ = response.Body.Close()
		}
	}
	// The daemon closes a connection without a complete request.
	for i, conn := range held[:3*each] {
		_ = conn.SetReadDeadline(time.Now().Add(suite.Patience))
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is still open", i)
			break
		}
	}
	s.inputs += len(held)
	for _, conn := range held {
		_ = conn.Close()
	}
	s.verdict(t, "slow HTTP")
}
