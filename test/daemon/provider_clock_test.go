package daemon_test

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	azurecloud "github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// clocked is the provider of a daemon in this process, with a clock of its own: the process under test has that of the machine.
type clocked struct {
	*provider.Server

	node    *node.Node
	client  *keyvault.Client
	metrics *prometheus.Registry

	mu  sync.Mutex
	now time.Time
}

func newClocked(t *testing.T) *clocked {
	t.Helper()
	c := &clocked{node: node.New(t, node.Options{}), metrics: prometheus.NewRegistry(), now: time.Now()}
	cloud, err := azurecloud.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := url.Parse(c.node.Cloud.ProxyURL())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.node.Cloud.CA())
	c.client, err = keyvault.New(keyvault.Options{
		Cloud: cloud, RootCAs: roots, Proxy: http.ProxyURL(proxy), MountMaxAge: 10 * time.Second, Metrics: c.metrics, Now: c.clock,
		After: func(time.Duration) <-chan time.Time { return time.After(0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defaults := volume.Defaults{RotationInterval: 2 * time.Minute}
	d, err := driver.New(driver.Config{
		Name: "keyvault-csi.io", Version: "v1", NodeID: "node-1", Endpoint: "unix:///csi.sock", KubeletRoot: "/", Defaults: defaults,
		Policy: policy.Default(), Fetcher: c.client, Store: struct{ driver.Store }{}, Registry: c.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Server, err = provider.New(provider.Options{
		Version: "v1", Class: providerclass.Options{Defaults: defaults}, Metrics: c.metrics, Pipeline: d.Pipeline(), Now: c.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *clocked) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clocked) later(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	c.Tidy()
	c.client.Tidy()
}

// mount lets the pods of a class with a secret call Mount, and returns what each of them gets, once for all that get the same. The
// current versions are those that a poll names.
func (c *clocked) mount(t *testing.T, pods []string, name string, current ...*v1alpha1.ObjectVersion) string {
	t.Helper()
	var contents []string
	for i, pod := range pods {
		request := c.node.MustMountRequest(t, node.Class(pod, "objects", objects(name)), current...)
		response, err := c.Mount(t.Context(), request)
		if err != nil {
			t.Fatalf("pod %d: %v", i, err)
		}
		contents = append(contents, string(response.GetFiles()[0].GetContents()))
	}
	return strings.Join(slices.Compact(contents), ", ")
}

// version is what a poll of the Secrets Store CSI Driver before 1.6 names.
func version(name string) *v1alpha1.ObjectVersion {
	return &v1alpha1.ObjectVersion{Id: "secret/" + name, Version: strings.Repeat("0", 32)}
}

// All polls within the interval are answered from memory; after it one request answers all. From 1.6 on the Secrets Store CSI Driver names
// no versions when it polls, so that a poll looks like a first mount.
func TestProviderInterval(t *testing.T) {
	t.Parallel()
	for name, current := range map[string][]*v1alpha1.ObjectVersion{"before 1.6": {version("a")}, "from 1.6": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClocked(t)
			c.node.Vault.SetSecret("a", "old", devcloud.SecretOptions{})
			pods := []string{"web-0", "web-1", "web-2"}
			expect := func(when string, pods []string, current []*v1alpha1.ObjectVersion, want string, requests int) {
				t.Helper()
				if got := c.mount(t, pods, "a", current...); got != want {
					t.Errorf("%s: the pods get %q, want %q", when, got, want)
				}
				if got := reads(c.node); got != requests {
					t.Errorf("%s: %d reads, want %d", when, got, requests)
				}
			}
			expect("three pods start", pods, nil, "old", 1)
			c.node.Vault.SetSecret("a", "new", devcloud.SecretOptions{})
			c.later(time.Minute)
			expect("polls after one minute", pods, current, "old", 0)
			c.later(59 * time.Second)
			expect("polls within the interval", pods, current, "old", 0)
			c.later(31 * time.Second) // also past the random wait
			expect("polls after it", pods, current, "new", 1)
			c.later(time.Minute)
			expect("polls within the next interval", pods, current, "new", 0)
			c.node.Vault.SetSecret("a", "newer", devcloud.SecretOptions{})
			expect("three pods start later", []string{"api-0", "api-1", "api-2"}, nil, "newer", 1)
		})
	}
}

// A volume that is not polled any more counts as gone: it has no expiry metric, its values leave the memory, and its pod has to prove
// itself again.
func TestProviderForgets(t *testing.T) {
	t.Parallel()
	c := newClocked(t)
	if _, err := c.node.Vault.SetCertificate("tls", devcloud.CertificateOptions{NotAfter: time.Now().Add(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	logins := func() int {
		return c.node.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token", Status: 200})
	}
	state := func(when string, certificates string) {
		t.Helper()
		want := "# HELP keyvault_csi_certificates Certificates that volumes hold.\n# TYPE keyvault_csi_certificates gauge\nkeyvault_csi_certificates " + certificates + "\n"
		if err := testutil.GatherAndCompare(c.metrics, strings.NewReader(want), "keyvault_csi_certificates"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	c.mount(t, []string{"web-0"}, "tls")
	state("mounted", "1")
	for range 3 {
		c.later(9 * time.Minute)
		c.mount(t, []string{"web-0"}, "tls", version("tls"))
		state("polled", "1")
	}
	reads(c.node)
	c.later(10 * time.Minute)
	state("not polled", "0")
	c.mount(t, []string{"web-0"}, "tls", version("tls"))
	state("polled again", "1")
	if got := logins(); got != 1 {
		t.Errorf("%d logins when the volume is back, want 1", got)
	}
	if got := reads(c.node); got != 1 {
		t.Errorf("%d reads when the volume is back, want 1", got)
	}
}
