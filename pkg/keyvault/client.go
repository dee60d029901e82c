package keyvault

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/decode"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/mounted"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/reads"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
)

// Options configure a [Client]. Only Cloud is required.
type Options struct {
	// Cloud of all vaults and of the authority, see [azure.CloudByName].
	Cloud azure.Cloud
	// Proxy chooses the proxy of a request; nil means none. The environment is not read.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs verify the certificates of vaults, authority and proxy; nil means those of the system.
	RootCAs *x509.CertPool
	// APIVersion of the vaults' interface, such as "7.4", for clouds with older versions. Empty means the SDK's.
	APIVersion string
	// TryTimeout is the time of one attempt of a request, after which it is sent again; 0 means [azure.TryTimeout]. It is for
	// tests that count requests, which must not depend on how fast the machine is.
	TryTimeout time.Duration
	// ClusterFile is the path of azure.json, the configuration of Kubernetes' Azure cloud provider. Identity cluster
	// logs in with it. Empty means that there is none.
	ClusterFile string
	// ReadFile reads ClusterFile, and the certificate that it names, for each use. Its error is the reason alone,
	// without the name of the file. It is required with ClusterFile.
	ReadFile func(name string) ([]byte, error)
	// MountMaxAge is the maximum age of a cached object for a first mount. 0 means that every first mount asks the
	// vault.
	MountMaxAge time.Duration
	// LastKnownGood is the maximum age of a cached object for a first mount while the vault cannot be reached. 0
	// means never. A refusal removes the object. A pod of identity workload must have proven itself.
	LastKnownGood time.Duration
	// CacheBytes is the approximate limit on the memory of cached objects; 0 means 8 MiB.
	CacheBytes int
	// Metrics is the registry for the client's metrics; nil means none.
	Metrics prometheus.Registerer
	// Credential replaces the login of every request, whatever its identity, for tools that read as their user. nil
	// means that the request's identity logs in.
	Credential azcore.TokenCredential
	// Now is the clock for the age of content and idle logins; nil means time.Now.
	Now func() time.Time
	// After is the timer of that clock; nil means time.After.
	After func(time.Duration) <-chan time.Time
	// Random returns numbers in [0, 1) that keep nodes apart; nil means those of math/rand. It must be safe for concurrent use.
	Random func() float64
	// Transport replaces the HTTPS connections to vaults and to the authority, for simulations; nil means that there is none.
	Transport http.RoundTripper
	// Logger has a line for each list that is refused or not worth it, see [volume.DetectByListing], one for each new reason why
	// a good token is not renewed, and one for each request to a vault at verbosity 4; the zero value discards.
	Logger klog.Logger
}

// Client reads from the vaults of one cloud. It is safe for concurrent use. It has no timer, and no goroutine between
// fetches. [Client.Tidy] drops unused logins and values; so does later use of the client.
type Client struct {
	cloud azure.Cloud
	now   func() time.Time

	sender   *azure.Sender
	metadata *azure.Sender
	vaults   *vault.Vaults
	logins   *login.Logins
	cache    *cache.Cache[*reads.Value]
	decoders *decode.Decoders
	volumes  *mounted.Volumes
	reads    *reads.Client
}

// New makes a client. It sends no request before the first [Client.Fetch].
func New(o Options) (*Client, error) {
	if err := o.Cloud.Check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.After == nil {
		o.After = time.After
	}
	c := &Client{
		cloud: o.Cloud, now: o.Now,
		sender:   azure.NewSender(o.Proxy, o.RootCAs, o.Logger),
		metadata: azure.NewMetadataSender(login.MetadataDial, o.Logger),
		decoders: decode.New(),
		volumes:  mounted.New(),
	}
	if o.Transport != nil {
		c.sender.HTTP.Transport = o.Transport
	}
	if err := c.connect(o); err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	return c, nil
}

// connect makes the parts that register metrics.
func (c *Client) connect(o Options) (err error) {
	c.vaults, err = vault.New(vault.Options{
		Cloud: o.Cloud, APIVersion: o.APIVersion, TryTimeout: o.TryTimeout, Sender: c.sender, Memory: azure.NewMemory(),
		Now: o.Now, After: o.After, Random: o.Random,
	}, o.Metrics)
	if err != nil {
		return err
	}
	c.logins, err = login.New(login.Options{
		Cloud: o.Cloud, Sender: c.sender, Metadata: c.metadata, TryTimeout: o.TryTimeout, Credential: o.Credential,
		ClusterFile: o.ClusterFile, ReadFile: o.ReadFile, ParseCertificate: c.decoders.ClientCertificate, Now: o.Now, After: o.After, Random: o.Random,
		Logger: o.Logger,
	}, o.Metrics)
	if err != nil {
		return err
	}
	c.cache, err = cache.New[*reads.Value](cache.Options{
		MountMaxAge: o.MountMaxAge, LastKnownGood: o.LastKnownGood, Bytes: o.CacheBytes, Now: o.Now, After: o.After, Random: o.Random,
	}, o.Metrics)
	if err != nil {
		return err
	}
	c.reads = reads.New(reads.Options{
		Cloud: o.Cloud, Vaults: c.vaults, Logins: c.logins, Cache: c.cache,
		Now: o.Now, After: o.After, Random: o.Random, Logger: o.Logger,
	})
	if o.Metrics == nil {
		return nil
	}
	return o.Metrics.Register(c.volumes)
}

// Tidy drops what is no longer used: values, logins with their tokens, and the state of vaults. It returns the
// approximate bytes of the dropped values.
func (c *Client) Tidy() (bytes int) {
	c.logins.Tidy()
	c.vaults.Tidy()
	c.volumes.Tidy(c.now())
	c.reads.Tidy()
	c.sender.Tidy(c.now())
	return c.cache.Tidy()
}

// CloseIdleConnections closes the idle connections. The client can still be used.
func (c *Client) CloseIdleConnections() {
	c.sender.HTTP.CloseIdleConnections()
	c.metadata.HTTP.CloseIdleConnections()
}
