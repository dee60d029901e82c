package keyvault_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// isolationTime is the environment variable that lengthens TestIsolation: "1m".
const isolationTime = "KEYVAULT_CSI_ISOLATION_TIME"

// actor is a pod with its identity, and the vaults that only it may read. The value shows which identity's token the
// vault saw. A wrong actor has no permission to log in and must never get a value.
type actor struct {
	request func() volume.Request
	reads   string // empty: none
	as      string // its identity in errors
}

// TestIsolation fetches concurrently for pods that are as similar as possible: the same client id, the same name of a
// service account or the same secret, in other tenants, namespaces and kinds of identity. The vaults answer each
// login with its own value. Meanwhile tokens expire, logins are dropped, and vaults refuse and fail. No actor may
// ever get the value or the error of another.
func TestIsolation(t *testing.T) {
	t.Parallel()
	duration := 3 * time.Second
	if text := os.Getenv(isolationTime); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	var ahead atomic.Int64
	w, actors := newIsolation(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	w.onceEach(actors)
	ctx, cancel := context.WithTimeout(t.Context(), duration+suite.Patience)
	defer cancel()
	end := time.Now().Add(duration)

	var fetched, refused, disturbed atomic.Int64
	enough := func() bool { // so that a loaded machine makes as many checks as another
		return time.Now().After(end) && fetched.Load() >= 50 && refused.Load() >= 10
	}
	var running sync.WaitGroup
	for range 24 {
		running.Go(func() {
			for ctx.Err() == nil && !t.Failed() && !enough() {
				a := actors[rand.IntN(len(actors))]
				content, err := w.client.Fetch(ctx, a.request())
				switch {
				case ctx.Err() != nil:
				case err != nil:
					w.judgeError(a, err)
					if a.reads == "" {
						refused.Add(1)
					} else {
						disturbed.Add(1)
					}
				case string(content.Files[0].Data.Reveal()) != a.reads:
					t.Errorf("%s read %q, which is not its %q", a.as, content.Files[0].Data.Reveal(), a.reads)
				default:
					fetched.Add(1)
				}
			}
		})
	}
	disturbing, stop := context.WithCancel(ctx)
	var disturber sync.WaitGroup
	disturber.Go(func() { w.disturb(disturbing, &ahead) })
	running.Wait()
	stop()
	disturber.Wait()
	t.Logf("%d reads, %d refusals of those who have no right, %d errors under disturbance", fetched.Load(), refused.Load(), disturbed.Load())
	if !enough() {
		t.Error("too little happened to prove anything")
	}
}

// onceEach starts all actors at the same moment, without faults.
func (w *fixture) onceEach(actors []actor) {
	w.t.Helper()
	var running sync.WaitGroup
	for _, a := range actors {
		running.Go(func() {
			content, err := w.client.Fetch(w.t.Context(), a.request())
			switch {
			case a.reads == "" && err != nil:
				w.judgeError(a, err)
			case a.reads == "" || err != nil || string(content.Files[0].Data.Reveal()) != a.reads:
				w.t.Errorf("%s got %+v, %v, want %q", a.as, content.Files, err, a.reads)
			}
		})
	}
	running.Wait()
}

// judgeError checks that an error names the actor alone, and that a refusal is expected.
func (w *fixture) judgeError(a actor, err error) {
	w.t.Helper()
	switch {
	case !strings.Contains(err.Error(), " as "+a.as+": "):
		w.t.Errorf("%s got an error of another: %v", a.as, err)
	case a.reads == "" && !errors.Is(err, volume.ErrUnauthenticated) && !errors.Is(err, volume.ErrUnavailable) && !errors.Is(err, volume.ErrInvalid):
		w.t.Errorf("%s, which has no right: %v", a.as, err)
	case a.reads != "" && !errors.Is(err, volume.ErrUnavailable) && !strings.Contains(err.Error(), "HTTP 401 Unauthorized"):
		w.t.Errorf("%s, which has every right: %v", a.as, err)
	}
}

// disturb ages tokens and logins, and makes vaults and authorities fail now and then.
func (w *fixture) disturb(ctx context.Context, ahead *atomic.Int64) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ahead.Store(0)
		if i%20 == 10 {
			ahead.Store(int64(65 * time.Minute)) // all earlier logins are idle now, and all tokens have expired
		}
		fault := []devcloud.Fault{
			{Service: devcloud.ServiceVault, Action: devcloud.Challenge, Times: 3, Text: `Bearer authorization="https://login.microsoftonline.com/` + tenantID + `", resource="https://vault.azure.net"`},
			{Service: devcloud.ServiceLogin, Action: devcloud.Fail, Times: 3},
			{Service: devcloud.ServiceVault, Action: devcloud.Reset, Times: 5},
			{Service: devcloud.ServiceIMDS, Action: devcloud.Fail, Times: 2},
			{Service: devcloud.ServiceVault, Action: devcloud.Delay, Delay: 20 * time.Millisecond, Times: 10},
		}[i%5]
		if fault.Action == devcloud.Challenge {
			fault.Host = "shop" // of the tenant in the challenge
		}
		if _, err := w.Inject(fault); err != nil {
			w.t.Error(err)
			return
		}
	}
}

// newIsolation makes two tenants with a vault each, in which the same two client ids exist.
func newIsolation(t *testing.T, clock func() time.Time) (*fixture, []actor) {
	t.Helper()
	cloud, err := devcloud.Start(context.Background(), devcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	w := &fixture{Cloud: cloud, t: t, issuer: cloud.NewIssuer(issuerURL)}
	w.vault = w.addVault("shop", tenantID)
	vaults := map[string]*devcloud.Vault{tenantID: w.vault, otherTenantID: w.addVault("bank", otherTenantID)}
	namespaces := []string{"a", "a-b", "web"}
	var federated []devcloud.FederatedCredential
	for _, namespace := range namespaces {
		for _, account := range []string{"web", "a"} {
			federated = append(federated, devcloud.FederatedCredential{Issuer: issuerURL, Subject: "system:serviceaccount:" + namespace + ":" + account})
		}
	}
	for tenant, vault := range vaults {
		vault.SetSecret("whoami", "I am ", devcloud.SecretOptions{OfCaller: true})
		for _, id := range []string{clientID, otherClientID} {
			w.must(cloud.AddIdentity(devcloud.Identity{
				Tenant: tenant, ClientID: id, Federated: federated,
				Secrets:      []devcloud.ClientSecret{{Value: clientSecret}, {Value: "second"}, {Value: "of " + tenant}},
				Certificates: []*x509.Certificate{firstCertificate(t, "plain.pem")},
			}))
			vault.Grant(id)
		}
		vault.Grant(ownID)
		vault.Grant(assignedID)
	}
	w.must(cloud.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: ownID, Managed: true, SystemAssigned: true}))
	w.must(cloud.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: assignedID, ResourceID: resourceID, Managed: true}))
	on := files{clusterFile: `{"aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`}
	w.client = w.newClient(on.options, func(o *keyvault.Options) {
		o.Now, o.MountMaxAge, o.LastKnownGood = clock, 50*time.Millisecond, time.Hour
	})
	w.client.DialMetadata(strings.TrimPrefix(w.IMDSURL(), "http://"))

	var actors []actor
	for tenant, vault := range vaults {
		for _, id := range []string{clientID, otherClientID} {
			for _, namespace := range namespaces {
				actors = append(actors, w.workloads(tenant, vault.URL(), id, namespace)...)
			}
			actors = append(actors, w.principals(tenant, vault.URL(), id)...)
		}
	}
	return w, append(actors, w.ofTheNode()...)
}

// whoami is a request for the secret whoami of a vault.
func whoami(vault string, pod volume.Pod, id volume.Identity) volume.Request {
	r := request(id, []volume.Object{secret("whoami")})
	r.Objects[0].Vault = vault
	if pod.Namespace != "" {
		r.Pod = pod
	}
	return r
}

// workloads are two service accounts of a namespace with one client id. Each also has a pod with an unsigned token. A
// third account is not federated.
func (w *fixture) workloads(tenant, vault, id, namespace string) []actor {
	var actors []actor
	for _, account := range []string{"web", "a"} {
		pod := volume.Pod{Name: "p", Namespace: namespace, UID: "u", ServiceAccount: account}
		token := w.token(devcloud.ServiceAccountToken{Namespace: namespace, ServiceAccount: account})
		actors = append(actors, actor{
			as:    "workload " + id,
			reads: fmt.Sprintf("I am %s %s system:serviceaccount:%s:%s", tenant, id, namespace, account),
			request: func() volume.Request {
				return whoami(vault, pod, volume.Identity{Kind: volume.Workload, ClientID: id, Assertion: token})
			},
		}, actor{as: "workload " + id, request: func() volume.Request {
			other := pod
			other.UID = "forger"
			return forged(whoami(vault, other, volume.Identity{Kind: volume.Workload, ClientID: id, Assertion: token}))
		}})
	}
	stranger := volume.Pod{Name: "p", Namespace: namespace, UID: "u", ServiceAccount: "stranger"}
	token := w.token(devcloud.ServiceAccountToken{Namespace: namespace, ServiceAccount: "stranger"})
	return append(actors, actor{as: "workload " + id, request: func() volume.Request {
		return whoami(vault, stranger, volume.Identity{Kind: volume.Workload, ClientID: id, Assertion: token})
	}})
}

// principals use the client id with each of its credentials, and with invalid ones.
func (w *fixture) principals(tenant, vault, id string) []actor {
	with := func(reads string, change func(*volume.Identity)) actor {
		login := volume.Identity{Kind: volume.ServicePrincipal, ClientID: id}
		change(&login)
		return actor{as: "servicePrincipal " + id, reads: reads, request: func() volume.Request { return whoami(vault, volume.Pod{}, login) }}
	}
	bySecret := func(secret string) func(*volume.Identity) {
		return func(i *volume.Identity) { i.ClientSecret = volume.NewSecret([]byte(secret)) }
	}
	byFile := func(name, password string) func(*volume.Identity) {
		content := loginFile(w.t, name)
		return func(i *volume.Identity) {
			i.ClientCertificate, i.ClientCertificatePassword = volume.NewSecret(content), volume.NewSecret([]byte(password))
		}
	}
	me := fmt.Sprintf("I am %s %s ", tenant, id)
	theirs := map[string]string{tenantID: otherTenantID, otherTenantID: tenantID}[tenant]
	return []actor{
		with(me+"secret 0", bySecret(clientSecret)),
		with(me+"secret 1", bySecret("second")),
		with(me+"secret 2", bySecret("of "+tenant)),
		with(me+"secret 0", func(i *volume.Identity) { bySecret(clientSecret)(i); i.TenantID = tenant }),
		with(me+"certificate", byFile("plain.pem", "")),
		with(me+"certificate", byFile("aes256-password.pem", certificatePassword)),
		with("", bySecret("wrong")),
		with("", bySecret("of "+theirs)),
		with("", bySecret(clientSecret[1:])),
		with("", func(i *volume.Identity) { bySecret(clientSecret)(i); i.TenantID = theirs }), // a token that this vault does not accept
		with("", byFile("aes256-password.pem", "wrong")),
	}
}

// ofTheNode are the pods that the operator lets use the node's identity.
func (w *fixture) ofTheNode() []actor {
	const shop, bank = "https://shop.vault.azure.net", "https://bank.vault.azure.net"
	node := func(vault, as, reads string, id volume.Identity) actor {
		return actor{as: as, reads: reads, request: func() volume.Request { return whoami(vault, volume.Pod{}, id) }}
	}
	return []actor{
		node(shop, "managed", "I am "+tenantID+" "+ownID+" managed", volume.Identity{Kind: volume.Managed}),
		node(shop, "managed "+assignedID, "I am "+tenantID+" "+assignedID+" managed", volume.Identity{Kind: volume.Managed, ClientID: assignedID}),
		node(shop, "managed "+resourceID, "I am "+tenantID+" "+assignedID+" managed", volume.Identity{Kind: volume.Managed, ResourceID: resourceID}),
		node(shop, "managed "+clientID, "", volume.Identity{Kind: volume.Managed, ClientID: clientID}), // not an identity of the node
		node(bank, "managed", "", volume.Identity{Kind: volume.Managed}),                               // of another tenant
		node(shop, "cluster "+clientID, "I am "+tenantID+" "+clientID+" secret 0", volume.Identity{Kind: volume.Cluster}),
		node(bank, "cluster "+clientID, "I am "+otherTenantID+" "+clientID+" secret 0", volume.Identity{Kind: volume.Cluster}),
	}
}
