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
	"golang.org/x/sync/singleflight"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Fetcher reads the content of volumes from the vaults. The context of a call ends with the volume's timeout.
type Fetcher interface {
	// Fetch returns the complete content, or an error that is a sentinel of package volume or the context's.
	Fetch(ctx context.Context, r volume.Request) (volume.Content, error)
	// Forget is called when a volume (volume.Request.Volume) is gone. It may never have been fetched.
	Forget(volume string)
}

// Policy decides which pod may use which identity.
type Policy interface {
	// Allow returns an error that is volume.ErrDenied, or none. Then the fetcher must check the Permit, which may be nil.
	Allow(r volume.Request) (volume.Permit, error)
	// RefreshAfter returns the time before which nothing of the request may have been fetched; zero if there is none. Of a
	// request that has only a Pod it returns the latest that may apply.
	RefreshAfter(r volume.Request, now time.Time) time.Time
	// Problem returns why the rules in force are not those that the operator has written, or nil.
	Problem() error
}

// Store keeps one set of files at each target, a cleaned absolute path below [Config.KubeletRoot]. It is called for several
// targets at the same time, but for one target only one call runs at a time.
type Store interface {
	// Inspect returns the state of the target.
	Inspect(ctx context.Context, target string) (volume.State, error)
	// Publish makes the content the set at the target, as a whole or not at all. It repairs what another process has changed
	// there.
	Publish(ctx context.Context, mount volume.Mount, content volume.Content) (volume.Outcome, error)
	// Unpublish removes the target, whatever is left of it. A target that is gone is no error. Half an unmount is of no use, so
	// there is no context.
	Unpublish(target string) error
	// Usage measures the volume at path. Without one the error is volume.ErrNotFound.
	Usage(path string) (volume.Usage, error)
}

// Config is the configuration of a [Driver]. Fields without a stated default are required.
type Config struct {
	Name    string // of the CSI driver, a domain name of at most 63 characters
	Version string // of this build, for GetPluginInfo and the metric build_info
	NodeID  string // the name of the node for the kubelet

	Endpoint    string // the CSI socket, "unix://" and an absolute path of at most 107 bytes
	KubeletRoot string // absolute; targets outside it are refused

	// RegistrationSocket is where the kubelet looks for plugins. Empty means that another process registers the driver.
	RegistrationSocket string
	// KubeletCSISocket is the path of the CSI socket in the kubelet's file system.
	// Default: <KubeletRoot>/plugins/<Name>/csi.sock.
	KubeletCSISocket string
	// HTTPAddress is host:port of /healthz, /readyz, /metrics and /volumes. Empty turns them off.
	HTTPAddress string
	// AllowReadWrite accepts publishes that are not read-only, for csi-sanity. The volumes are read-only nevertheless.
	AllowReadWrite bool

	Limits   volume.Limits   // of the content of one volume
	Defaults volume.Defaults // of attributes that a pod leaves out

	Policy  Policy
	Fetcher Fetcher
	Store   Store

	// Registry gets the driver's metrics. /metrics shows all that is registered there.
	Registry *prometheus.Registry
}

// Driver is one CSI driver on one node.
type Driver struct {
	config Config
	socket string // the path of Config.Endpoint
	node   *nodeServer

	service service // beside CSI

	probes singleflight.Group

	registration atomic.Pointer[string] // why the kubelet refused last, on one line; empty if it did not; nil until it has called
	offering     atomic.Bool            // the registration socket must be there
	patience     patience
	after        func(time.Duration) <-chan time.Time
}

// maxSocketPath is the size of sun_path of sockaddr_un, without the terminating NUL.
const maxSocketPath = 107

// driverName is the format of GetPluginInfo.name in the CSI specification.
var driverName = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]{0,61}[a-zA-Z0-9])?$`)

// New checks the configuration and registers the metrics. It opens nothing. The caller must call [Driver.Run] once.
func New(c Config) (*Driver, error) {
	socket, isUnix := strings.CutPrefix(c.Endpoint, "unix://")
	switch {
	case !driverName.MatchString(c.Name):
		return nil, fmt.Errorf("the driver's name %q is not a domain name of at most 63 characters", c.Name)
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
	case c.Version == "", c.NodeID == "", c.Policy == nil, c.Fetcher == nil, c.Store == nil, c.Registry == nil:
		return nil, errors.New("a version, a node id, a policy, a fetcher, a store and a registry are needed")
	}
	if c.KubeletCSISocket == "" {
		c.KubeletCSISocket = filepath.Join(c.KubeletRoot, "plugins", c.Name, "csi.sock")
	}
	if c.RegistrationSocket != "" && len(c.KubeletCSISocket) > maxSocketPath {
		// The kubelet could not connect, and only its own log would say so.
		return nil, fmt.Errorf("the kubelet's CSI socket %q is longer than %d bytes; use a shorter name of the driver", c.KubeletCSISocket, maxSocketPath)
	}
	node := &nodeServer{
		config:       c,
		root:         strings.TrimSuffix(filepath.Clean(c.KubeletRoot), "/") + "/",
		capabilities: newCapabilities(),
		parser:       volume.NewParser(c.Defaults),
		pipeline: &Pipeline{
			policy: c.Policy, fetcher: c.Fetcher, limits: c.Limits, admission: newAdmission(), timeout: " (attribute timeout)",
			now: time.Now,
		},
		now: time.Now,
	}
	var err error
	if node.metrics, err = newMetrics(c.Version, node, c.Registry); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return &Driver{config: c, socket: filepath.Clean(socket), node: node, patience: defaultPatience(), after: time.After}, nil
}
