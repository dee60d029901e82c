package keyvault

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"golang.org/x/sync/singleflight"
	"k8s.io/klog/v2"
)

// Options say where Azure is and how it is reached. Only Cloud is needed.
type Options struct {
	// Cloud holds the vaults and the authority of every request, see [CloudByName].
	Cloud Cloud
	// Proxy chooses the proxy of a request; nil means none. The environment is never asked.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs judge the certificates of vaults, authority and proxy; nil means those of the system.
	RootCAs *x509.CertPool
	// APIVersion of the vaults' interface, for clouds that lag behind: "7.4". Empty means the SDK's.
	APIVersion string
	// Now is the clock by which content ages and idle logins are dropped; nil means time.Now.
	Now func() time.Time
	// Logger gets one line for each request to a vault at verbosity 4; the zero value discards.
	Logger klog.Logger
}

// Client reads from the vaults of one cloud. It is safe for concurrent use. It has no timer and, while nobody fetches,
// no goroutine; what has not been used for an hour is dropped when something else is used.
type Client struct {
	cloud      Cloud
	apiVersion string
	now        func() time.Time
	log        klog.Logger

	sender     *sender
	authority  *authoritySender
	challenges *challenges
	macKey     [32]byte           // of this process, see digest
	decoding   singleflight.Group // by digest of the content, see decode

	mu       sync.Mutex // guards what follows
	logins   map[credentialKey]*idle[*login]
	sessions map[sessionKey]*idle[*session]
	swept    time.Time
}

// New makes a client. The network is not asked for anything before the first [Client.Fetch].
func New(o Options) (*Client, error) {
	if err := o.Cloud.check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	authority, err := url.Parse(o.Cloud.AuthorityHost)
	if err != nil {
		return nil, err
	}
	s := &sender{http: newHTTPClient(o), log: o.Logger}
	c := &Client{
		cloud: o.Cloud, apiVersion: o.APIVersion, now: o.Now, log: o.Logger,
		sender:    s,
		authority: &authoritySender{sender: s, host: authority.Host},
		logins:    map[credentialKey]*idle[*login]{},
		sessions:  map[sessionKey]*idle[*session]{},
	}
	c.challenges = &challenges{suffix: o.Cloud.VaultSuffix, now: o.Now, ask: c.askChallenge, seen: map[string]*idle[challenge]{}}
	_, _ = rand.Read(c.macKey[:]) // never fails: it ends the process instead
	return c, nil
}

const (
	applicationID = "keyvault-csi" // in the User-Agent, so that a vault's log tells who asked
	retryDelay    = 200 * time.Millisecond
	maxRetryDelay = 30 * time.Second
)

// retries are short, so that an error is known inside the time that the kubelet gives to a publish. longest is the
// longest Retry-After that is waited for; beyond it the refusal itself is the answer.
func retries(longest time.Duration) policy.RetryOptions {
	return policy.RetryOptions{MaxRetries: 2, TryTimeout: tryTimeout, RetryDelay: retryDelay, MaxRetryDelay: longest}
}

// patient gives a request to a vault the retries that fit into what is left of the caller's time.
func patient(ctx context.Context) context.Context {
	longest := maxRetryDelay
	if deadline, ok := ctx.Deadline(); ok {
		longest = max(min(longest, time.Until(deadline)), time.Millisecond)
	}
	return policy.WithRetryOptions(ctx, retries(longest))
}

func (c *Client) vaultOptions(vault string) policy.ClientOptions {
	return policy.ClientOptions{
		APIVersion: c.apiVersion,
		Retry:      retries(maxRetryDelay),
		Telemetry:  policy.TelemetryOptions{ApplicationID: applicationID},
		Transport:  &vaultSender{sender: c.sender, challenges: c.challenges, vault: vault},
	}
}

// askChallenge sends a request that needs a token without one. The vault's 401 is seen by the transport.
func (c *Client) askChallenge(ctx context.Context, vault, path string) error {
	ctx, seen := withOutcome(patient(ctx))
	version := c.apiVersion
	if version == "" {
		version = "7.4"
	}
	req, err := runtime.NewRequest(ctx, http.MethodGet, vault+path+"?api-version="+url.QueryEscape(version))
	if err != nil {
		return err
	}
	options := c.vaultOptions(vault)
	options.APIVersion = ""
	resp, err := runtime.NewPipeline("keyvault", "", runtime.PipelineOptions{}, &options).Do(req) //nolint:bodyclose // Drain closes it
	if err != nil {
		return reduced(err, seen)
	}
	defer runtime.Drain(resp)
	if resp.StatusCode >= http.StatusBadRequest && resp.StatusCode != http.StatusUnauthorized {
		return reduced(runtime.NewResponseError(resp), seen)
	}
	return nil
}

// CloseIdleConnections closes what is kept open for the next fetch. The client can still be used.
func (c *Client) CloseIdleConnections() { c.sender.http.CloseIdleConnections() }
