package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	vaultURL = "https://fleet.vault.azure.net"
	oldValue = "the value"
	newValue = "the new value"

	// leastTrip and moreTrip are how long a request takes: at least the one, and at random up to the other more.
	leastTrip, moreTrip = 5 * time.Millisecond, 20 * time.Millisecond
)

// node is one node: its client, and the transport that answers for the vault.
type node struct {
	vault  *Vault
	record *record

	mu     sync.Mutex
	random *rand.Rand
	client *keyvault.Client
	down   func() bool  // reports whether the node is cut off
	good   atomic.Int64 // answered requests
}

// upgrade replaces the client, as a new pod of the driver does.
func (n *node) upgrade(cloud azure.Cloud) error {
	client, err := keyvault.New(keyvault.Options{
		Cloud: cloud, MountMaxAge: 10 * time.Second, Credential: token{}, Transport: n, Random: n.chance,
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.client = client
	return err
}

// chance is the client's source of jitter.
func (n *node) chance() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.random.Float64()
}

func (n *node) fetcher() fetcher {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.client
}

type unreachable struct{}

func (unreachable) Error() string { return "the zone is down" }

// RoundTrip implements http.RoundTripper: the way to the vault, its answer, and the way back.
func (n *node) RoundTrip(req *http.Request) (*http.Response, error) {
	n.mu.Lock()
	trip := leastTrip + rand64(n.random, moreTrip)
	n.mu.Unlock()
	if n.down() {
		return nil, unreachable{}
	}
	if !sleep(req.Context(), trip/2) {
		return nil, req.Context().Err()
	}
	resp := n.answer(req)
	if !sleep(req.Context(), trip/2) {
		return nil, req.Context().Err()
	}
	return resp, nil
}

func (n *node) answer(req *http.Request) *http.Response {
	if req.Header.Get("Authorization") == "" {
		return suite.Response(req, http.StatusUnauthorized, "", "Www-Authenticate",
			`Bearer authorization="https://login.microsoftonline.com/11111111-0000-0000-0000-000000000001", resource="https://vault.azure.net"`)
	}
	now := time.Now()
	ok, after := n.vault.Take(now)
	switch {
	case !ok && after == 0:
		return suite.Response(req, http.StatusTooManyRequests, "", "Content-Type", "application/json")
	case !ok:
		return suite.Response(req, http.StatusTooManyRequests, "", "Retry-After", strconv.Itoa(int(after/time.Second)))
	}
	if now.Sub(n.vault.Began) >= Settle {
		n.good.Add(1)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(req.URL.Path, "/secrets/"), "/")
	value := oldValue
	if changed := n.record.changed; !changed.IsZero() && !now.Before(changed) && strings.HasSuffix(name, "-0") {
		value = newValue
	}
	return suite.Response(req, http.StatusOK,
		`{"value":"`+value+`","id":"`+vaultURL+`/secrets/`+name+`/9d90276b377b4d9ea10763c153a2f015"}`, "Content-Type", "application/json")
}

// token is a login that has its token.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// requests are the volumes of every node: one for each identity, with its share of the objects.
func requests(objects, identities int) []volume.Request {
	all := make([]volume.Request, identities)
	for i := range all {
		all[i] = volume.Request{
			Volume: fmt.Sprintf("volume-%d", i), RotationInterval: Interval, Timeout: Timeout,
			Pod:      volume.Pod{Namespace: "shop", ServiceAccount: "web", Name: "web", UID: "1"},
			Identity: volume.Identity{Kind: volume.Managed, ClientID: fmt.Sprintf("22222222-0000-0000-0000-%012d", i)},
			Limits:   volume.Limits{Files: 4096, Bytes: 1 << 20},
		}
		for o := range objects / identities {
			name := fmt.Sprintf("object-%d-%d", i, o)
			all[i].Objects = append(all[i].Objects, volume.Object{
				Kind: volume.KindSecret, Source: "objects[0]", Vault: vaultURL, Name: name,
				Outputs: []volume.Output{{Part: volume.PartValue, Path: fmt.Sprintf("%04d", o)}},
			})
		}
	}
	return all
}
