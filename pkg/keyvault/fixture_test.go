package keyvault_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	tenantID      = "11111111-0000-0000-0000-000000000001"
	otherTenantID = "11111111-0000-0000-0000-000000000002"
	clientID      = "22222222-0000-0000-0000-000000000001"
	otherClientID = "22222222-0000-0000-0000-000000000002"
	clientSecret  = "the~client~secret~of~the~tests"
	issuerURL     = "https://issuer.example.com/cluster"
)

// fixture is a cloud with one vault that two identities may read, and a client.
type fixture struct {
	*devcloud.Cloud
	t       testing.TB
	vault   *devcloud.Vault
	issuer  *devcloud.Issuer
	client  *keyvault.Client
	ahead   atomic.Int64 // of the clock of the clients, see later
	began   time.Time
	running atomic.Bool
}

// later advances the clock of the clients, not of the cloud.
func (w *fixture) later(d time.Duration) { w.ahead.Add(int64(d)) }

// now stands still between two calls of later, however slow the machine is, unless a test lets the clock run.
func (w *fixture) now() time.Time {
	now := w.began
	if w.running.Load() {
		now = time.Now()
	}
	return now.Add(time.Duration(w.ahead.Load()))
}

// run lets the clock run, for pauses that must end within one call.
func (w *fixture) run() { w.running.Store(true) }

func newFixture(t testing.TB, change ...func(*keyvault.Options)) *fixture {
	t.Helper()
	return new(fixture).start(t, devcloud.Options{}, change)
}

// newTimedFixture is newFixture with a cloud whose clock is that of the client, tokens that do not expire in the test, and all time for lists.
func newTimedFixture(t testing.TB, change ...func(*keyvault.Options)) *fixture {
	t.Helper()
	w := new(fixture)
	change = append([]func(*keyvault.Options){patience(nil)}, change...)
	return w.start(t, devcloud.Options{Now: w.now, TokenLife: 1000 * time.Hour}, change)
}

func (w *fixture) start(t testing.TB, o devcloud.Options, change []func(*keyvault.Options)) *fixture {
	t.Helper()
	w.t, w.began = t, time.Now()
	cloud, err := devcloud.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	w.Cloud, w.issuer = cloud, cloud.NewIssuer(issuerURL)
	w.vault = w.addVault("shop", tenantID)
	for _, id := range []string{clientID, otherClientID} {
		err := cloud.AddIdentity(devcloud.Identity{
			Tenant: tenantID, ClientID: id,
			Secrets:   []devcloud.ClientSecret{{Value: clientSecret}},
			Federated: []devcloud.FederatedCredential{{Issuer: issuerURL, Subject: "system:serviceaccount:shop:web"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.vault.Grant(id)
	}
	w.client = w.newClient(change...)
	return w
}

func (w *fixture) newClient(change ...func(*keyvault.Options)) *keyvault.Client {
	w.t.Helper()
	public, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.CA())
	proxy, err := url.Parse(w.ProxyURL())
	if err != nil {
		w.t.Fatal(err)
	}
	options := keyvault.Options{Cloud: public, RootCAs: roots, Proxy: http.ProxyURL(proxy), Now: w.now, TryTimeout: suite.Patience}
	for _, f := range change {
		f(&options)
	}
	client, err := keyvault.New(options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.CloseIdleConnections)
	return client
}

func (w *fixture) addVault(name, tenant string) *devcloud.Vault {
	w.t.Helper()
	vault, err := w.AddVault(name, devcloud.VaultOptions{Tenant: tenant})
	if err != nil {
		w.t.Fatal(err)
	}
	return vault
}

func (w *fixture) token(claims devcloud.ServiceAccountToken) volume.Secret {
	w.t.Helper()
	token, err := w.issuer.Token(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return volume.NewSecret([]byte(token))
}

// inject adds a fault to the cloud until the test ends.
func (w *fixture) inject(f devcloud.Fault) (stop func()) {
	w.t.Helper()
	stop, err := w.Inject(f)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(stop)
	return stop
}

// asServicePrincipal is a request for objects of the vault by the first identity.
func (w *fixture) asServicePrincipal(objects ...volume.Object) volume.Request {
	return request(volume.Identity{
		Kind: volume.ServicePrincipal, ClientID: clientID, ClientSecret: volume.NewSecret([]byte(clientSecret)),
	}, objects)
}

func (w *fixture) asWorkload(objects ...volume.Object) volume.Request {
	return request(volume.Identity{
		Kind: volume.Workload, ClientID: clientID,
		Assertion: w.token(devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: "web"}),
	}, objects)
}

func request(id volume.Identity, objects []volume.Object) volume.Request {
	return volume.Request{
		Pod:      volume.Pod{Name: "web-1", Namespace: "shop", UID: "33333333-0000-0000-0000-000000000001", ServiceAccount: "web"},
		Identity: id, Objects: objects, Timeout: time.Minute,
	}
}

// secret requests a secret's value as a file with the same name.
func secret(name string) volume.Object {
	return volume.Object{
		Kind: volume.KindSecret, Source: "secrets[0]", Vault: "https://shop.vault.azure.net", Name: name,
		Outputs: []volume.Output{{Part: volume.PartValue, Path: name}},
	}
}

// fetch fetches, and fails the test on an error.
func (w *fixture) fetch(r volume.Request) map[string]string {
	w.t.Helper()
	content, err := w.client.Fetch(w.t.Context(), r)
	if err != nil {
		w.t.Fatalf("Fetch: %v", err)
	}
	if !slices.IsSortedFunc(content.Files, func(a, b volume.File) int { return strings.Compare(a.Path, b.Path) }) {
		w.t.Error("the files are not in the order of their paths")
	}
	files := map[string]string{}
	for _, file := range content.Files {
		files[file.Path] = string(file.Data.Reveal())
	}
	return files
}

// requests counts the requests to the vaults and the login host, as "service kind status".
func (w *fixture) requests() map[string]int {
	counts := map[string]int{}
	for key, n := range w.Counts() {
		if key.Service != devcloud.ServiceProxy {
			counts[string(key.Service)+" "+key.Kind+" "+http.StatusText(key.Status)] += n
		}
	}
	return counts
}
