package daemon_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// podCase is a pod and what it must read: the vault answers with the tenant, client ID and token of the caller.
type podCase struct {
	volume kubelet.Volume
	reads  string     // end of the file
	code   codes.Code // or error
	text   string     // part of the error
}

// TestIsolation publishes volumes of pods with as much in common as possible, in parallel and repeatedly. pkg/keyvault does the same for
// longer, with the race detector and with faults.
func TestIsolation(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	bank, err := n.Cloud.AddVault("bank", devcloud.VaultOptions{Tenant: otherTenant})
	if err != nil {
		t.Fatal(err)
	}
	federated := []devcloud.FederatedCredential{}
	for _, namespace := range []string{"shop", "bank"} {
		federated = append(federated, devcloud.FederatedCredential{Issuer: n.Issuer.URL(), Subject: "system:serviceaccount:" + namespace + ":web"})
	}
	for tenant, vault := range map[string]*devcloud.Vault{node.Tenant: n.Vault, otherTenant: bank} {
		if err := n.Cloud.AddIdentity(devcloud.Identity{
			Tenant: tenant, ClientID: node.WorkloadID, Federated: federated,
			Secrets: []devcloud.ClientSecret{{Value: "first~secret"}, {Value: "second~secret"}},
		}); err != nil {
			t.Fatal(err)
		}
		vault.Grant(node.WorkloadID)
		vault.SetSecret("whoami", "I am ", devcloud.SecretOptions{OfCaller: true})
	}
	pods := podCases(t, n)
	for round := range 3 {
		var all sync.WaitGroup
		for i, pod := range pods {
			all.Go(func() {
				v := pod.volume
				v.Name = fmt.Sprintf("pod-%d-%d", round, i)
				err := n.Publish(t.Context(), v)
				if status.Code(err) != pod.code || !strings.Contains(status.Convert(err).Message(), pod.text) {
					t.Errorf("pod %d: %v, want %s: %s", i, err, pod.code, pod.text)
					return
				}
				if pod.code != codes.OK {
					return
				}
				if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/whoami")); got != "I am "+pod.reads {
					t.Errorf("pod %d reads %q, want %q", i, got, "I am "+pod.reads)
				}
			})
		}
		all.Wait()
	}
}

func podCases(t *testing.T, n *node.Node) []podCase {
	t.Helper()
	token := func(namespace, account string) string {
		tokens, err := n.Issuer.Tokens(devcloud.ServiceAccountToken{Namespace: namespace, ServiceAccount: account})
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	pod := func(namespace, vault string) kubelet.Volume {
		v := workload("vault", vault, "secrets", "whoami")
		v.Namespace = namespace
		return v
	}
	principal := func(secret, vault string, pairs ...string) kubelet.Volume {
		v := node.With(pod("shop", vault), pairs...)
		v.NoToken, v.Secret = true, map[string]string{"clientsecret": secret}
		return v
	}
	// A pod that writes a token into its attributes: the kubelet's token has priority. Without one the driver uses only a token of the
	// pod's own service account, which Entra ID checks.
	const key = "csi.storage.k8s.io/serviceAccount.tokens"
	forged := node.With(pod("evil", "shop"), key, token("shop", "web"))
	beside := forged
	beside.TokenInContext = true
	alone := forged
	alone.NoToken = true
	unsigned := pod("evil", "shop")
	unsigned.NoToken = true
	unsigned = node.With(unsigned, key, strings.Replace(token("evil", "web"), `"token":"`, `"token":"e30.`, 1))

	notFederated := `it needs one with subject "system:serviceaccount:evil:web"`
	pods := []podCase{
		{volume: pod("shop", "shop"), reads: node.Tenant + " " + node.WorkloadID + " system:serviceaccount:shop:web"},
		{volume: pod("bank", "shop"), reads: node.Tenant + " " + node.WorkloadID + " system:serviceaccount:bank:web"},
		{volume: pod("shop", "bank"), reads: otherTenant + " " + node.WorkloadID + " system:serviceaccount:shop:web"},
		{volume: pod("bank", "bank"), reads: otherTenant + " " + node.WorkloadID + " system:serviceaccount:bank:web"},
		{volume: pod("evil", "shop"), code: codes.Unauthenticated, text: notFederated},
		{volume: forged, code: codes.Unauthenticated, text: notFederated},
		{volume: beside, code: codes.Unauthenticated, text: notFederated},
		{volume: alone, code: codes.InvalidArgument, text: key + `: the token for audience "api://AzureADTokenExchange" is not that of the pod's service account "evil/web"`},
		{volume: unsigned, code: codes.InvalidArgument, text: key + `: the token for audience "api://AzureADTokenExchange" is not a JWT`},
		{volume: principal("wrong~secret", "shop"), code: codes.Unauthenticated, text: "AADSTS7000215"},
		{volume: principal("", "shop"), code: codes.InvalidArgument},
		{volume: principal("first~secret", "shop", "tenantID", otherTenant), code: codes.Unauthenticated, text: "HTTP 401"},
	}
	for i, secret := range []string{"first~secret", "second~secret"} {
		for vault, tenant := range map[string]string{"shop": node.Tenant, "bank": otherTenant} {
			pods = append(pods, podCase{volume: principal(secret, vault), reads: tenant + " " + node.WorkloadID + " secret " + strconv.Itoa(i)})
		}
	}
	return pods
}
