package keyvault

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

const (
	// maxBody bounds every response. A secret has at most 25 KB, a page of a list 25 entries; the SDK itself would
	// read without end.
	maxBody = 1 << 20
	// connsPerHost bounds the connections to one vault. Measured: without a bound a burst of a hundred requests
	// dials a hundred times.
	connsPerHost = 16
	// maxIdleConns bounds the connections that are kept for later, to all vaults together: each takes some 40 KB.
	maxIdleConns = 64
	// idleConns keeps connections over the 60 to 90 seconds between two republishes.
	idleConns = 5 * time.Minute
	// tryTimeout bounds one attempt, so that a silent server leaves time for another one.
	tryTimeout = 10 * time.Second
)

func newHTTPClient(o Options) *http.Client {
	return &http.Client{
		// A vault does not redirect. Following one would show the request to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  o.Proxy,
			OnProxyConnectResponse: refusedByProxy,
			DialContext:            (&net.Dialer{Timeout: tryTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
			TLSHandshakeTimeout:    tryTimeout,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
			MaxConnsPerHost:        connsPerHost,
			MaxIdleConnsPerHost:    connsPerHost,
			MaxIdleConns:           maxIdleConns,
			IdleConnTimeout:        idleConns,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// proxyRefusal is a CONNECT that the proxy answered with something else than 200.
type proxyRefusal struct{ status int }

func (proxyRefusal) Error() string { return "the proxy refuses the connection" }

func refusedByProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return proxyRefusal{resp.StatusCode}
	}
	return nil
}

// sender is the SDK's way to the network (azcore's policy.Transporter), for logins and vaults alike.
type sender struct {
	http *http.Client
	log  klog.Logger
}

// Do sends one request. It notes the outcome for reduced, because the SDK's errors keep of a transport error
// at most its text.
func (s *sender) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, final{errors.New("only https is spoken")}
	}
	resp, err := s.http.Do(req)
	note(req, resp, err)
	if err != nil {
		return nil, err
	}
	s.log.V(4).Info("answer", "host", req.URL.Host, "path", req.URL.Path, "status", resp.StatusCode)
	if memory := answerMemoryOf(req.Context()); memory != nil {
		if err := memory.reserve(req.Context(), resp.ContentLength); err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody, req: req, memory: answerMemoryOf(req.Context())}
	return resp, nil
}

// authoritySender keeps logins at the one authority of the cloud. The SDK asks it where to send credentials to; the
// environment variables of "regional authorities", which the SDK reads, must not lead that question elsewhere.
type authoritySender struct {
	*sender
	host string
}

func (s *authoritySender) Do(req *http.Request) (*http.Response, error) {
	const question = "/.well-known/openid-configuration"
	if !strings.HasSuffix(req.URL.Path, question) {
		return s.sender.Do(req)
	}
	req.URL.Host, req.Host = s.host, ""
	tenant := strings.TrimSuffix(strings.TrimPrefix(req.URL.Path, "/"), "/v2.0"+question)
	if isEntra(s.host) && guid.MatchString(tenant) {
		return s.endpoints(tenant).response(req), nil
	}
	return s.sender.Do(req)
}

// isEntra knows the authorities whose endpoints are known, so that no login there begins with a question for them: that
// would be one round trip more for each identity, and one more thing that can fail. Other authorities (an operator's, or
// China's, which has had several names) are asked, and so is every one for a tenant that is given by a domain name.
// https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud#microsoft-entra-authentication-endpoints
func isEntra(host string) bool {
	return host == "login.microsoftonline.com" || host == "login.microsoftonline.us"
}

// endpoints is what Entra ID answers, as far as the SDK reads it.
// https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#fetch-the-openid-configuration-document
type endpoints struct {
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Issuer        string `json:"issuer"`
}

func (s *authoritySender) endpoints(tenant string) endpoints {
	root := "https://" + s.host + "/" + tenant
	return endpoints{root + "/oauth2/v2.0/authorize", root + "/oauth2/v2.0/token", root + "/v2.0"}
}

func (e endpoints) response(req *http.Request) *http.Response {
	body, _ := json.Marshal(e) // strings cannot fail
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Content-Type": {"application/json"}},
		Body:    io.NopCloser(bytes.NewReader(body)),
		Request: req,
	}
}

// vaultSender answers the SDK's opening request, the one without a token that only asks for the challenge, from the
// challenge that is known already, and shows the SDK no challenge but those that this package has written.
type vaultSender struct {
	*sender
	challenges *challenges
	metrics    *metrics
	vault      string
}

func (s *vaultSender) Do(req *http.Request) (*http.Response, error) {
	// The next page of a list is where the vault says it is, and Azure's say it with a port.
	if "https://"+strings.TrimSuffix(req.URL.Host, ":443") != s.vault {
		return nil, final{errStrange}
	}
	if req.Header.Get("Authorization") == "" {
		if known, ok := s.challenges.known(s.vault); ok {
			return known.response(req), nil
		}
	}
	turn := turnOf(req.Context())
	if refusal := turn.refusal(); refusal != nil {
		return nil, final{refusal}
	}
	began := time.Now()
	resp, err := s.sender.Do(req)
	s.metrics.request(s.vault, req, resp, time.Since(began))
	turn.heard(resp)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	s.challenges.rewrite(s.vault, resp)
	return resp, nil
}

// errBodyTooLarge ends the reading of a body that is over maxBody.
var errBodyTooLarge = errors.New("the answer is larger than any answer of a key vault")

type boundedBody struct {
	io.ReadCloser
	left int64
	req  *http.Request

	memory *answerMemory // nil: not counted
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		note(b.req, nil, errBodyTooLarge)
		return 0, final{errBodyTooLarge}
	}
	if int64(len(p)) > b.left+1 { // one byte more than allowed tells a body at the bound from one above it
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.memory != nil {
		if err := b.memory.grow(b.req.Context(), maxBody-b.left); err != nil {
			return 0, err
		}
	}
	if err != nil && err != io.EOF {
		note(b.req, nil, err)
	}
	return n, err
}

// final is an error that the SDK must not answer with another attempt: it looks for the method's name.
type final struct{ error }

func (final) NonRetriable()   {}
func (f final) Unwrap() error { return f.error }
