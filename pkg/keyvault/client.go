package keyvault

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
)

// Options say where Azure is and how it is reached. Only Cloud is needed.
type Options struct {
	// Cloud has the vaults and the authority of every request, see [azure.CloudByName].
	Cloud azure.Cloud
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
	// CacheBytes bounds the memory that objects are kept in, about; 0 means 8 MiB.
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
	cloud         azure.Cloud
	now           func() time.Time
	after         func(time.Duration) <-chan time.Time
	lastKnownGood time.Duration

	sender   *azure.Sender
	metadata *azure.Sender
	vaults   *vault.Vaults
	logins   *login.Logins
	cache    *cache.Cache[*value]
	decoders *decoders
	volumes  *volumes
}

// New makes a client. The network is not asked for anything before the first [Client.Fetch].
func New(o Options) (*Client, error) {
	if err := o.Cloud.Check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	c := &Client{
		cloud: o.Cloud, now: o.Now, after: o.After, lastKnownGood: o.LastKnownGood,
		sender:   azure.NewSender(o.Proxy, o.RootCAs, o.Logger),
		metadata: azure.NewMetadataSender(login.MetadataDial, o.Logger),
		decoders: newDecoders(),
		volumes:  newVolumes(),
	}
	if err := c.connect(o); err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	return c, nil
}

// connect makes the parts that register metrics.
func (c *Client) connect(o Options) (err error) {
	c.vaults, err = vault.New(vault.Options{
		Cloud: o.Cloud, APIVersion: o.APIVersion, Sender: c.sender, Memory: azure.NewMemory(), Now: o.Now, After: o.After,
	}, o.Metrics)
	if err != nil {
		return err
	}
	c.logins, err = login.New(login.Options{
		Cloud: o.Cloud, Sender: c.sender, Metadata: c.metadata, Credential: o.Credential,
		ClusterFile: o.ClusterFile, ReadFile: o.ReadFile, ParseCertificate: c.decoders.clientCertificate, Now: o.Now, After: o.After,
	}, o.Metrics)
	if err != nil {
		return err
	}
	c.cache, err = cache.New[*value](cache.Options{
		MountMaxAge: o.MountMaxAge, LastKnownGood: o.LastKnownGood, Bytes: o.CacheBytes, Now: o.Now, After: o.After,
	}, o.Metrics)
	if err != nil || o.Metrics == nil {
		return err
	}
	return o.Metrics.Register(c.volumes)
}

// Tidy forgets what serves nobody any more: values, logins with their tokens, and what is known of vaults. It gives about
// how many bytes of values that were.
func (c *Client) Tidy() (bytes int) {
	c.logins.Tidy()
	c.vaults.Tidy()
	return c.cache.Tidy()
}

// CloseIdleConnections closes what is kept open for the next fetch. The client can still be used.
func (c *Client) CloseIdleConnections() {
	c.sender.HTTP.CloseIdleConnections()
	c.metadata.HTTP.CloseIdleConnections()
}
