package keyvault

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/prometheus/client_golang/prometheus"
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
	// ClusterFile names the file with the cluster's own login, the azure.json of Kubernetes' Azure cloud provider, for
	// identity cluster. Empty means that there is none.
	ClusterFile string
	// ReadFile reads ClusterFile, and the certificate that it names, each time that it is needed. Its error is the
	// reason alone, without the name of the file. It is needed with ClusterFile.
	ReadFile func(name string) ([]byte, error)
	// MountMaxAge is how old an object may be that this node has fetched for the same identity and that a first mount is
	// served with. 0 means that every first mount asks the vault.
	MountMaxAge time.Duration
	// LastKnownGood is how old an object may be that a first mount is served with while the vault cannot be reached. 0
	// means never. Nothing survives a refusal, and a pod of identity workload must have proven itself.
	LastKnownGood time.Duration
	// CacheBytes bounds the memory that objects are kept in, about; 0 means 4 MiB.
	CacheBytes int
	// Metrics is where the client registers what it counts; nil means nowhere.
	Metrics prometheus.Registerer
	// Credential logs every request in, whatever identity it names, for tools that read with their user's own login. nil
	// means that the request's identity logs in.
	Credential azcore.TokenCredential
	// Now is the clock by which content ages and idle logins are dropped; nil means time.Now.
	Now func() time.Time
	// After is the timer of that clock; nil means time.After.
	After func(time.Duration) <-chan time.Time
	// Logger gets one line for each request to a vault at verbosity 4; the zero value discards.
	Logger klog.Logger
}

// Client reads from the vaults of one cloud. It is safe for concurrent use. It has no timer and, while nobody fetches,
// no goroutine; logins and values that serve nobody any more are dropped by [Client.Tidy], or when something else is used.
type Client struct {
	cloud      Cloud
	apiVersion string
	credential azcore.TokenCredential // of Options; nil as a rule
	now        func() time.Time
	after      func(time.Duration) <-chan time.Time
	log        klog.Logger

	mountMaxAge, lastKnownGood time.Duration

	clusterFile string
	readFile    func(string) ([]byte, error)

	sender     *sender
	authority  *authoritySender
	metadata   *metadataService
	challenges *challenges
	gates      *gates
	cache      *cache
	answers    *answers
	metrics    *metrics
	decoder    *decoder
	macKey     [32]byte // of this process, see digest

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
	if o.After == nil {
		o.After = time.After
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	authority, err := url.Parse(o.Cloud.AuthorityHost)
	if err != nil {
		return nil, err
	}
	s := &sender{http: newHTTPClient(o), log: o.Logger}
	c := &Client{
		cloud: o.Cloud, apiVersion: o.APIVersion, credential: o.Credential, now: o.Now, after: o.After, log: o.Logger,
		mountMaxAge: o.MountMaxAge, lastKnownGood: o.LastKnownGood,
		clusterFile: o.ClusterFile, readFile: o.ReadFile,
		sender:    s,
		authority: &authoritySender{sender: s, host: authority.Host},
		metadata:  newMetadataService(o),
		gates:     &gates{now: o.Now, after: o.After, seen: map[string]*idle[*gate]{}},
		metrics:   newMetrics(),
		answers:   newAnswers(),
		decoder:   newDecoder(o.Now),
		logins:    map[credentialKey]*idle[*login]{},
		sessions:  map[sessionKey]*idle[*session]{},
	}
	c.challenges = &challenges{suffix: o.Cloud.VaultSuffix, now: o.Now, ask: c.askChallenge, seen: map[string]*idle[challenge]{}}
	_, _ = rand.Read(c.macKey[:]) // never fails: it ends the process instead
	c.cache = newCache(o, c.metrics.evictions.Inc)
	if o.Metrics != nil {
		if err := c.register(o.Metrics); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
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

func (c *Client) vaultOptions(vault string) policy.ClientOptions {
	attempts := retries(maxRetryDelay)
	attempts.ShouldRetry = worthAnotherTry
	return policy.ClientOptions{
		APIVersion:      c.apiVersion,
		Retry:           attempts,
		Telemetry:       policy.TelemetryOptions{ApplicationID: applicationID},
		PerCallPolicies: []policy.Policy{pageAt{vault}},
		Transport:       &vaultSender{sender: c.sender, challenges: c.challenges, metrics: c.metrics, vault: vault},
	}
}

// worthAnotherTry leaves to the gate, or the login, what has to wait for longer.
func worthAnotherTry(resp *http.Response, err error) bool {
	if err != nil {
		return true // those that are final have been sorted out
	}
	_, named := retryAfter(resp.Header, time.Now())
	return retriable(resp.StatusCode) && !throttles(resp.StatusCode, named)
}

// askChallenge sends a request that needs a token without one. The vault's 401 is seen by the transport.
func (c *Client) askChallenge(ctx context.Context, vault, path string) error {
	version := c.apiVersion
	if version == "" {
		version = "7.4"
	}
	options := c.vaultOptions(vault)
	options.APIVersion = ""
	pipeline := runtime.NewPipeline("keyvault", "", runtime.PipelineOptions{}, &options)
	return c.request(ctx, vault, func(ctx context.Context) error {
		req, err := runtime.NewRequest(ctx, http.MethodGet, vault+path+"?api-version="+url.QueryEscape(version))
		if err != nil {
			return err
		}
		resp, err := pipeline.Do(req) //nolint:bodyclose // Drain closes it
		if err != nil {
			return err
		}
		defer runtime.Drain(resp)
		switch {
		case resp.StatusCode == http.StatusUnauthorized:
			return nil
		case resp.StatusCode < http.StatusMultipleChoices: // whoever it is, a vault gives nothing without a token
			return errStrange
		default:
			return runtime.NewResponseError(resp)
		}
	})
}

// CloseIdleConnections closes what is kept open for the next fetch. The client can still be used.
func (c *Client) CloseIdleConnections() {
	c.sender.http.CloseIdleConnections()
	c.metadata.http.CloseIdleConnections()
}
