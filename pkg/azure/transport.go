package azure

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"k8s.io/klog/v2"
)

const (
	// maxBody bounds every response. A secret has at most 25 KB, a page of a list 25 entries. The SDK itself has no
	// limit.
	maxBody = 1 << 20
	// ConnsPerHost bounds the connections to one host. Without a bound, 100 concurrent requests open 100 connections.
	ConnsPerHost = 16
	// maxIdleConns bounds the idle connections to all hosts together. Each takes about 40 KB.
	maxIdleConns = 64
	// idleConns keeps connections between two republishes, which are 60 to 90 seconds apart.
	idleConns = 5 * time.Minute
	// keepConns is how long connections are reused without asking DNS again.
	keepConns = 5 * time.Minute
	// TryTimeout bounds one attempt, so that there is time for another if a server does not answer.
	TryTimeout = 10 * time.Second
	// RetryDelay is how long the SDK waits before its second attempt.
	RetryDelay = 200 * time.Millisecond

	maxHeaderBytes = 64 << 10
)

// MetadataHost is the link-local address of Azure's instance metadata service. It issues the node's own tokens to
// every process on the node.
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
const MetadataHost = "169.254.169.254"

// ApplicationID is in the User-Agent, so that a vault's log shows the client.
const ApplicationID = "keyvault-csi"

// Sender sends the requests of the SDK (policy.Transporter).
type Sender struct {
	HTTP *http.Client
	Log  klog.Logger
	// Plain allows http, for the metadata service only.
	Plain bool

	mu     sync.Mutex
	closed time.Time // when the idle connections were closed for the last time
}

// Tidy closes the idle connections every five minutes, so that the next request asks DNS again. Otherwise a connection that is used at each
// refresh would live as long as the process, and still go to the public address of a vault that has got a private endpoint.
func (s *Sender) Tidy(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.closed) >= keepConns {
		s.closed = now
		s.HTTP.CloseIdleConnections()
	}
}

// NewSender makes a sender for https. proxy chooses the proxy of a request; nil means none. roots are the trusted
// CAs; nil means those of the system.
func NewSender(proxy func(*http.Request) (*url.URL, error), roots *x509.CertPool, log klog.Logger) *Sender {
	return &Sender{Log: log, HTTP: &http.Client{
		CheckRedirect: noRedirect,
		Transport: &http.Transport{
			Proxy:                  proxy,
			OnProxyConnectResponse: refusedByProxy,
			DialContext:            (&net.Dialer{Timeout: TryTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    TryTimeout,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
			MaxConnsPerHost:        ConnsPerHost,
			MaxIdleConnsPerHost:    ConnsPerHost,
			MaxIdleConns:           maxIdleConns,
			IdleConnTimeout:        idleConns,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
	}}
}

// NewMetadataSender makes a sender for the node's metadata service. The service is local, so a short dial timeout is
// enough to detect that there is none, as outside of Azure.
func NewMetadataSender(dial time.Duration, log klog.Logger) *Sender {
	return &Sender{Plain: true, Log: log, HTTP: &http.Client{
		CheckRedirect: noRedirect,
		Transport: &http.Transport{
			Proxy:                  nil, // the answer is a token in clear text
			DialContext:            (&net.Dialer{Timeout: dial}).DialContext,
			MaxConnsPerHost:        4,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
	}}
}

// noRedirect follows no redirect: no service of Azure sends one, and another host must not see the request.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// proxyRefusal is the answer of a proxy to CONNECT if it is not 200.
type proxyRefusal struct{ status int }

func (proxyRefusal) Error() string { return "the proxy refuses the connection" }

func refusedByProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return proxyRefusal{resp.StatusCode}
	}
	return nil
}

// Retries returns few and short retries, so that an error is reported within the kubelet's timeout of a publish.
// Longer waits are left to the [Throttle]. longest is the longest pause between two attempts, and try the time of one; 0 means
// TryTimeout.
func Retries(longest, try time.Duration) policy.RetryOptions {
	return policy.RetryOptions{
		MaxRetries: 2, TryTimeout: cmp.Or(try, TryTimeout), RetryDelay: RetryDelay, MaxRetryDelay: longest,
		ShouldRetry: func(resp *http.Response, err error) bool {
			return err != nil || retriable(resp.StatusCode) && !Throttles(resp) // errors after which the SDK must not retry have the type final
		},
	}
}

// Do sends one request, unless the throttle of its attempt is closed. It records the outcome in the attempt, because
// the SDK's errors keep only the text of a transport error.
func (s *Sender) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !s.Plain {
		return nil, Final(errors.New("only https is spoken"))
	}
	attempt := AttemptOf(req.Context())
	if reason := attempt.blocked(); reason != nil {
		return nil, Final(reason)
	}
	resp, err := s.HTTP.Do(req)
	attempt.record(req, resp, err)
	if err != nil {
		return nil, err
	}
	s.Log.V(4).Info("answer", "host", req.URL.Host, "path", req.URL.Path, "status", resp.StatusCode)
	if memory := callMemoryOf(req.Context()); memory != nil {
		if err := memory.reserve(req.Context(), resp.ContentLength); err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody, req: req}
	return resp, nil
}

// errBodyTooLarge ends the reading of a body that is larger than maxBody.
var errBodyTooLarge = errors.New("the answer is larger than any answer of a key vault")

type boundedBody struct {
	io.ReadCloser
	left int64
	req  *http.Request
}

func (b *boundedBody) Read(p []byte) (int, error) {
	attempt := AttemptOf(b.req.Context())
	if b.left < 0 {
		attempt.record(b.req, nil, errBodyTooLarge)
		return 0, Final(errBodyTooLarge)
	}
	if int64(len(p)) > b.left+1 { // one more byte than allowed shows that the body is too large
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		attempt.record(b.req, nil, err)
	}
	return n, err
}

// final is an error after which the SDK must not retry: the SDK checks for the method NonRetriable.
type final struct{ error }

func (final) NonRetriable()   {}
func (f final) Unwrap() error { return f.error }

// Final marks an error after which the SDK must not retry.
func Final(err error) error { return final{err} }

// Sent reports whether a request that ended with err was sent. It was not if its throttle was closed.
func Sent(err error) bool {
	_, blocked := errors.AsType[*Answer](err)
	return !blocked
}
