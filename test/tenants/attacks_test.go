package tenants_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// attack is the content of a tenant's vault, and the attributes of its volumes.
type attack struct {
	name  string
	fill  func(h *hostile)
	asks  func(h *hostile, volume int) (attributes map[string]string)
	stays bool // volumes stay and are refreshed; else they are unpublished at once
}

// The kubelet's pauses: after a first failure, the longest after failures, and between refreshes with the shortest interval of a pod.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 122 * time.Second
	refreshPause = 30 * time.Second
)

// hostile is one hostile tenant.
type hostile struct {
	node      *node.Node
	t         *testing.T
	form      form
	namespace string
	clientID  string
	vault     *devcloud.Vault
}

func newHostile(t *testing.T, n *node.Node, number int, f form) *hostile {
	h := &hostile{node: n, t: t, form: f, namespace: fmt.Sprint("hostile-", number), clientID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", number)}
	var err error
	if h.vault, err = n.Cloud.AddVault(fmt.Sprint("hostile", number), devcloud.VaultOptions{Tenant: node.Tenant}); err != nil {
		t.Error(err)
	}
	if err := n.Cloud.AddIdentity(devcloud.Identity{Tenant: node.Tenant, ClientID: h.clientID, Name: h.namespace, Federated: []devcloud.FederatedCredential{
		{Issuer: n.Issuer.URL(), Subject: "system:serviceaccount:" + h.namespace + ":app"},
	}}); err != nil {
		t.Error(err)
	}
	h.vault.Grant(h.clientID)
	return h
}

// run publishes all volumes of the tenant repeatedly until ctx ends, and unpublishes them.
func (h *hostile) run(ctx context.Context, a attack) {
	var pods sync.WaitGroup
	for i := range h.form.volumes {
		pods.Go(func() { h.pod(ctx, a, i) })
	}
	pods.Wait()
}

// pod plays the kubelet for one volume: it retries with growing pauses, and refreshes a published volume.
func (h *hostile) pod(ctx context.Context, a attack, number int) {
	v := kubelet.Volume{Name: fmt.Sprint(h.namespace, "-", number), Namespace: h.namespace, ServiceAccount: "app", Attributes: map[string]string{"vault": h.vault.URL(), "clientID": h.clientID}}
	maps.Copy(v.Attributes, a.asks(h, number))
	backOff := firstPause
	for ctx.Err() == nil {
		pause := refreshPause
		err := h.node.Publish(ctx, v)
		switch {
		case err != nil:
			pause, backOff = backOff, min(2*backOff, longestPause)
		case a.stays:
			backOff = firstPause
			_ = aging.Set(h.node.Target(v), time.Now().Add(-3*time.Minute))
		default:
			pause, backOff = firstPause, firstPause
			_ = h.node.Unpublish(ctx, v)
		}
		pause /= time.Duration(h.form.pace)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
	// The kubelet retries while an abandoned publish still runs.
	var err error
	suite.Eventually(h.t, "a publish that was given up ends", func() bool {
		err = h.node.Unpublish(context.WithoutCancel(ctx), v)
		return grpcstatus.Code(err) != codes.Aborted
	})
	if err != nil {
		h.t.Errorf("%s: an unpublish failed: %v", a.name, err)
	}
}

// secrets sets n different secrets of size bytes in the vault.
func (h *hostile) secrets(n, size int) {
	filler := strings.Repeat("x", size)
	for i := range n {
		h.vault.SetSecret(fmt.Sprintf("s%05d", i), (fmt.Sprint(i) + filler)[:size], devcloud.SecretOptions{})
	}
}

func (h *hostile) fault(f devcloud.Fault) {
	f.Service, f.Host = devcloud.ServiceVault, h.vault.Host()
	if _, err := h.node.Cloud.Inject(f); err != nil {
		h.t.Error(err)
	}
}

// list is n lines of objects, with the numbers from, from+1, …
func list(format string, from, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", from+i)
	}
	return b.String()
}

const (
	kilobytes25 = 25_000 // Key Vault's limit of a value
	expensive   = 33_000 // iterations of each of three key derivations, just below the limit
)

func attacks() []attack {
	everything := func(*hostile, int) map[string]string { return map[string]string{"secrets": "*"} }
	return []attack{
		{
			name: "more in a vault than in a volume",
			fill: func(h *hostile) { h.secrets(h.form.secrets, kilobytes25) },
			asks: everything,
		}, {
			name: "as many files as there may be",
			fill: func(h *hostile) { h.secrets(4096, 20) },
			asks: everything, stays: true,
		}, {
			name: "one file more than there may be",
			fill: func(h *hostile) { h.secrets(4097, 20) },
			asks: everything,
		}, {
			name: "volumes as large as they may be, each with values of its own",
			fill: func(h *hostile) { h.secrets(40*h.form.volumes, kilobytes25) },
			asks: func(_ *hostile, volume int) map[string]string {
				return map[string]string{"objects": list("- secret: s%05d", 40*volume, 40), "rotationInterval": "30s"}
			},
			stays: true,
		}, {
			name: "the same, that come and go",
			fill: func(h *hostile) { h.secrets(40*h.form.volumes, kilobytes25) },
			asks: func(_ *hostile, volume int) map[string]string {
				return map[string]string{"objects": list("- secret: s%05d", 40*volume, 40)}
			},
		}, {
			name: "certificates that are expensive to decode",
			fill: func(h *hostile) { h.certificates(h.form.certificates) },
			asks: func(h *hostile, _ int) map[string]string {
				return map[string]string{"objects": list("- {certificate: c%05d, chain: c%[1]d}", 0, h.form.certificates), "rotationInterval": "30s"}
			},
			stays: true,
		}, {
			name: "attributes as long as they may be",
			fill: func(*hostile) {},
			asks: func(*hostile, int) map[string]string {
				return map[string]string{"objects": list("- {secret: s%05d, optional: true}", 0, 4096)}
			},
		}, {
			name: "a vault that throttles in the middle of a volume",
			fill: func(h *hostile) {
				h.secrets(40, kilobytes25)
				h.fault(devcloud.Fault{Action: devcloud.Throttle, Limit: 30, Window: 10 * time.Second})
			},
			asks: everything, stays: true,
		}, {
			name: "a vault that hangs in the middle of a volume",
			fill: func(h *hostile) {
				h.secrets(40, kilobytes25)
				h.fault(devcloud.Fault{Action: devcloud.Hang, Path: "/secrets/s00039"})
			},
			asks: everything,
		}, {
			name: "vaults that do not exist",
			fill: func(*hostile) {},
			asks: func(_ *hostile, volume int) map[string]string {
				return map[string]string{"objects": list("- {secret: x, path: p%05d, vault: none%[1]d}", 1000*volume, 1000)}
			},
		},
	}
}

// certificates sets n different PKCS#12 files that take long to decode.
func (h *hostile) certificates(n int) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		h.t.Error(err)
		return
	}
	for i := range n {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i)), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
		if err != nil {
			h.t.Error(err)
			return
		}
		cert, _ := x509.ParseCertificate(der)
		content, err := pkcs12.Modern.WithIterations(expensive).Encode(key, cert, nil, "")
		if err != nil {
			h.t.Error(err)
			return
		}
		name := fmt.Sprintf("c%05d", i)
		h.vault.SetSecret(name, base64.StdEncoding.EncodeToString(content), devcloud.SecretOptions{
			ContentType: devcloud.PKCS12, Kid: h.vault.URL() + "/keys/" + name + "/0123456789abcdef0123456789abcdef", Managed: true,
		})
	}
}
