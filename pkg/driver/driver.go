package driver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Fetcher answers a request from the vaults. The driver gives it a context that ends with the volume's timeout.
type Fetcher interface {
	// Fetch gives the complete content or an error that is a sentinel of package volume or the context's; never a
	// part.
	Fetch(ctx context.Context, r volume.Request) (volume.Content, error)
	// Forget says that a volume, as named by volume.Request.Volume, is gone. It may never have been there.
	Forget(volume string)
}

// Policy is the operator's word on who may use which identity.
type Policy interface {
	// Allow gives an error that is volume.ErrDenied, or none. Then the fetcher must have the Permit, which may be nil.
	Allow(r volume.Request) (volume.Permit, error)
	// Problem says why the rules in force are not those that the operator has written; nil when they are.
	Problem() error
}

// Store keeps one set of files at each target. The driver never calls it for one target at the same time, but for
// several. Targets are cleaned absolute paths below [Config.KubeletRoot].
type Store interface {
	// Inspect says what stands at the target.
	Inspect(ctx context.Context, target string) (volume.State, error)
	// Publish makes the content the set at the target, as a whole or not at all, and puts right what somebody else has changed
	// there.
	Publish(ctx context.Context, mount volume.Mount, content volume.Content) (volume.Outcome, error)
	// Unpublish removes the target, whatever is left of it. A target that is gone is no error. It takes no context:
	// half an unmount helps nobody.
	Unpublish(target string) error
	// Usage measures the volume at path. It is volume.ErrNotFound when there is none.
	Usage(path string) (volume.Usage, error)
}

// Config is what a [Driver] needs. Fields without a stated default are required.
type Config struct {
	Name    string // of the CSI driver, a domain name of at most 63 characters
	Version string // of this build, for GetPluginInfo and the metric build_info
	NodeID  string // as the kubelet calls its node

	Endpoint    string // the CSI socket, "unix:///" and a path of at most 107 bytes
	KubeletRoot string // absolute; targets outside it are refused

	// RegistrationSocket is where the kubelet looks for plugins. Empty, the default, leaves the registration to
	// somebody else.
	RegistrationSocket string
	// KubeletCSISocket is the path of the CSI socket as the kubelet sees it.
	// Default: <KubeletRoot>/plugins/<Name>/csi.sock.
	KubeletCSISocket string

	// HTTPAddress is host:port of /healthz, /readyz and /metrics. Empty, the default, means none of them.
	HTTPAddress string

	// AllowReadWrite accepts publishes that are not read-only. It is for csi-sanity, which sends them; the volumes are
	// read-only all the same.
	AllowReadWrite bool

	// Limits bound the content of one volume.
	Limits volume.Limits

	// Defaults stand in for attributes that a pod leaves out.
	Defaults volume.Defaults

	Policy  Policy
	Fetcher Fetcher
	Store   Store

	// Registry takes the driver's metrics and shows them, with those that others have registered, at /metrics.
	Registry *prometheus.Registry

	// Now is the clock against which the age of a set is measured. Default: time.Now.
	Now func() time.Time
}

// Driver is one CSI driver on one node. Make it with [New], run it once with [Driver.Run].
type Driver struct {
	config  Config
	socket  string // the path of Config.Endpoint
	metrics *metrics
	node    *nodeServer

	registration atomic.Pointer[registration] // nil until the kubelet has said something
	grace        time.Duration
	after        func(time.Duration) <-chan time.Time
}

// grace is how long calls in flight may go on after Run was told to stop: less than the 30 seconds that the kubelet
// gives a pod, so that there is time left to cancel them.
const grace = 20 * time.Second

// maxSocketPath is what fits into a sockaddr_un, with its terminating NUL.
const maxSocketPath = 107

// driverName is what the CSI specification asks of GetPluginInfo.name.
var driverName = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]{0,61}[a-zA-Z0-9])?$`)

// New checks the configuration and registers the driver's metrics. It opens nothing.
func New(c Config) (*Driver, error) {
	socket, isUnix := strings.CutPrefix(c.Endpoint, "unix://")
	switch {
	case !driverName.MatchString(c.Name):
		return nil, fmt.Errorf("the driver's name %q is not a domain name of at most 63 characters", c.Name)
	case c.Version == "":
		return nil, errors.New("the driver's version is missing")
	case c.NodeID == "":
		return nil, errors.New("the node's id is missing")
	case !isUnix || !filepath.IsAbs(socket):
		return nil, fmt.Errorf("the endpoint %q is not of the form unix:///path", c.Endpoint)
	case len(socket) > maxSocketPath:
		return nil, fmt.Errorf("the path of the endpoint %q is longer than %d bytes", c.Endpoint, maxSocketPath)
	case c.RegistrationSocket != "" && !filepath.IsAbs(c.RegistrationSocket):
		return nil, fmt.Errorf("the registration socket %q is not an absolute path", c.RegistrationSocket)
	case len(c.RegistrationSocket) > maxSocketPath:
		return nil, fmt.Errorf("the registration socket %q is longer than %d bytes", c.RegistrationSocket, maxSocketPath)
	case !filepath.IsAbs(c.KubeletRoot):
		return nil, fmt.Errorf("the kubelet's root %q is not an absolute path", c.KubeletRoot)
	case c.KubeletCSISocket != "" && !filepath.IsAbs(c.KubeletCSISocket):
		return nil, fmt.Errorf("the kubelet's CSI socket %q is not an absolute path", c.KubeletCSISocket)
	case c.Policy == nil, c.Fetcher == nil, c.Store == nil, c.Registry == nil:
		return nil, errors.New("a policy, a fetcher, a store and a registry are needed")
	}
	if c.KubeletCSISocket == "" {
		c.KubeletCSISocket = filepath.Join(c.KubeletRoot, "plugins", c.Name, "csi.sock")
	}
	if c.Now == nil {
		c.Now = time.Now
	}

	m, err := newMetrics(c.Registry, c.Version)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	node := &nodeServer{
		nodeID:       c.NodeID,
		capabilities: newCapabilities(),

		root:           strings.TrimSuffix(filepath.Clean(c.KubeletRoot), "/") + "/",
		allowReadWrite: c.AllowReadWrite,

		limits:    c.Limits,
		admission: newAdmission(),

		defaults: c.Defaults,
		parser:   volume.NewParser(c.Defaults),
		policy:   c.Policy,
		fetcher:  c.Fetcher,
		store:    c.Store,
		metrics:  m,
		now:      c.Now,
	}
	if err := c.Registry.Register(newVolumeStates(node)); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return &Driver{config: c, socket: filepath.Clean(socket), metrics: m, node: node, grace: grace, after: time.After}, nil
}
