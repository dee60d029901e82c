package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// The texts for network failures are stable: none has an address, a port or a time.
func TestTextsForNetworkFailures(t *testing.T) {
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
		{Final(errBodyTooLarge), "the answer is larger than any answer of a key vault"},
	} {
		if got := NewUnreached("h", test.err); got.Why != test.want || got.Hint == "" {
			t.Errorf("%v: %q, %q, want %q", test.err, got.Why, got.Hint, test.want)
		}
	}
}
