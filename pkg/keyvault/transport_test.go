package keyvault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// newServer is a TLS server and the sender that trusts it.
func newServer(t *testing.T, handler http.HandlerFunc) (*sender, string) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	s := &sender{http: newHTTPClient(Options{RootCAs: roots})}
	t.Cleanup(s.http.CloseIdleConnections)
	return s, server.URL
}

func get(t *testing.T, s *sender, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
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
	resp, err := get(t, s, url)
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
	if _, err := get(t, s, strings.Replace(url, "https", "http", 1)); err == nil {
		t.Error("no error")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]error{maxBody: nil, maxBody + 1: errBodyTooLarge} {
		s, url := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
		resp, err := get(t, s, url)
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

// The words for a failure of the network are stable: none holds an address, a port or a time.
func TestWordsForTheNetwork(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, test := range []struct {
		err  error
		want string
	}{
		{dial(&net.DNSError{Err: "no such host", Name: "x", Server: "10.0.0.10:53", IsNotFound: true}), "there is no such host"},
		{dial(&net.DNSError{Err: "server misbehaving", IsTemporary: true}), "its name cannot be resolved now"},
		{dial(syscall.ECONNREFUSED), "connection refused"},
		{dial(syscall.EHOSTUNREACH), "no route to host"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "the connection broke"},
		{io.ErrUnexpectedEOF, "the connection broke"},
		{context.DeadlineExceeded, "timed out"},
		{&net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}, "the proxy cannot be reached"},
		{proxyRefusal{http.StatusForbidden}, "the proxy answered CONNECT with HTTP 403"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "its certificate is not trusted"},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}}, "its certificate is not trusted"},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "its certificate has expired or is not valid yet"},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{}}, "its certificate is for another host"},
		{final{errBodyTooLarge}, "the answer is larger than any answer of a key vault"},
	} {
		if got := newUnreached("h", test.err); got.why != test.want || got.hint == "" {
			t.Errorf("%v: %q, %q, want %q", test.err, got.why, got.hint, test.want)
		}
	}
}

// When time ends between two attempts, the answer to the first is what is left to tell; also whose it was.
func TestAnAnswerBeforeTheEndOfTime(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]answer{
		metadataHost:           {entra: true, metadata: true, status: 429},
		"shop.vault.azure.net": {status: 429},
	} {
		ctx, seen := withOutcome(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host, nil)
		if err != nil {
			t.Fatal(err)
		}
		note(req, &http.Response{StatusCode: http.StatusTooManyRequests}, nil)
		if got, ok := errors.AsType[*answer](reduced(context.DeadlineExceeded, seen)); !ok || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, want %+v", host, got, want)
		}
	}
}
