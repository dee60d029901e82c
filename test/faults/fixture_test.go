package faults_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// fixture is a node, and what is between it and its cloud.
type fixture struct {
	*node.Node
	atOnce  int    // how many faults run in parallel
	managed bool   // its volumes have managed identities
	relay   *relay // see setups
	dns     *dnsServer
	times   sync.Map // of unusual service account tokens: kubelet.Volume.Name -> tokenTimes

	cells atomic.Int64
}

// setup is a kind of node. Each fault needs one of them.
type setup struct {
	name    string
	healthy bool // whether healthy vaults work during the faults
	start   func(t *testing.T) *fixture
}

// shortLife is the lifetime of tokens that the daemon does not use twice, so that every fetch logs in. It uses none in its last 30 s; a
// busy machine needs a part of this time between a login and the request.
const shortLife = 29 * time.Second

var setups = []setup{
	{"vault", true, func(t *testing.T) *fixture {
		return start(t, node.Options{})
	}},
	{"login", true, func(t *testing.T) *fixture {
		return start(t, node.Options{Cloud: devcloud.Options{TokenLife: shortLife}})
	}},
	{"shared", false, func(t *testing.T) *fixture {
		return start(t, node.Options{Cloud: devcloud.Options{TokenLife: shortLife}})
	}},
	{"proxy", false, func(t *testing.T) *fixture {
		address, err := node.FreeAddress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r := newRelay(t, address)
		fx := launch(t, node.Options{Env: []string{"HTTPS_PROXY=http://" + r.address}})
		r.to(strings.TrimPrefix(fx.Cloud.ProxyURL(), "http://"))
		fx.relay = r
		return fx.warmed(t)
	}},
	{"direct", true, func(t *testing.T) *fixture {
		needsNetwork(t)
		dns := newDNS(t)
		fx := start(t, node.Options{Env: []string{"HTTPS_PROXY="}, Cloud: devcloud.Options{Listen: "127.0.0.1:443"}})
		fx.dns = dns
		return fx
	}},
	{"metadata", false, func(t *testing.T) *fixture {
		needsNetwork(t)
		metadataOwner.Lock()
		t.Cleanup(metadataOwner.Unlock)
		r := newRelay(t, node.MetadataAddress+":80")
		fx := start(t, node.Options{Flags: []string{managedAllowed(t)}, Cloud: devcloud.Options{TokenLife: shortLife}})
		r.to(strings.TrimPrefix(fx.Cloud.IMDSURL(), "http://"))
		fx.relay, fx.managed, fx.atOnce = r, true, 3 // the daemon has four connections to the service
		return fx
	}},
}

// managedAllowed is the flag of a policy that allows managed identities to all, if the client ID is known.
func managedAllowed(t *testing.T) (flag string) {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(`rules: [{namespaces: ["*"], identities: [managed, workload], clientIDs: ["*-*"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--policy-file=" + policy
}

// metadataOwner is locked by the node that uses the address of the metadata service.
var metadataOwner sync.Mutex

func needsNetwork(t *testing.T) {
	t.Helper()
	if why := node.NoNetwork(); why != "" {
		t.Skip("no network of its own: ", why)
	}
}

func start(t *testing.T, o node.Options) *fixture {
	t.Helper()
	return launch(t, o).warmed(t)
}

func launch(t *testing.T, o node.Options) *fixture {
	t.Helper()
	// Without a cache every first publish asks the vault, and so gets the fault.
	o.Flags = append(o.Flags, "--mount-max-age=0")
	n := node.New(t, o)
	fx := &fixture{Node: n, atOnce: 10}
	// One token for all usual volumes: to sign it is most of the cost of a call.
	usual, err := n.Issuer.Token(tokenTimes{0, 24 * time.Hour}.of(healthyVolume("any")))
	if err != nil {
		t.Fatal(err)
	}
	n.Token = func(_ context.Context, v kubelet.Volume) (string, error) {
		if times, ok := fx.times.Load(v.Name); ok {
			return n.Issuer.Token(times.(tokenTimes).of(v))
		}
		return usual, nil
	}
	return fx
}

// warmed publishes once, so that the daemon has made everything that it makes once.
func (fx *fixture) warmed(t *testing.T) *fixture {
	t.Helper()
	fx.Vault.SetSecret("value", "healthy", devcloud.SecretOptions{})
	v := healthyVolume("warm")
	fx.MustPublish(t, v)
	fx.MustUnpublish(t, v)
	return fx
}

// healthyVolume is a volume of the healthy vault.
func healthyVolume(name string) kubelet.Volume { return node.Volume(name, "secrets", "value") }
