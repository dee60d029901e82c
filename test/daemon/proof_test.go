package daemon_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A new pod with the names of an earlier one must log in itself: after the federated credential is deleted, a recreated pod or service
// account gets nothing, and the earlier pod continues with the token of its login. An unsigned token gets nothing, and changes nothing.
func TestAPodIsNotItsNames(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=1h", "--last-known-good=1h"}})
	n.Vault.SetSecret("a", "old", devcloud.SecretOptions{})
	before := workload("secrets", "a")
	n.MustPublish(t, before)

	sign := n.Token
	forged := node.With(before)
	forged.Recreated = 1
	n.Token = func(ctx context.Context, v kubelet.Volume) (string, error) {
		token, err := sign(ctx, v)
		return token[:strings.LastIndexByte(token, '.')+1] + strings.Repeat("A", 342), err
	}
	const asPod = `secrets[0]: secret "a" of ` + node.VaultURL + ` as workload ` + node.WorkloadID + `: Entra ID answered HTTP `
	err := n.Publish(t.Context(), forged)
	if text := status.Convert(err).Message(); status.Code(err) != codes.Unauthenticated || !strings.HasPrefix(text, asPod+"400 invalid_request, AADSTS50013") {
		t.Errorf("an unsigned token: %v", err)
	}
	n.Token = sign
	another := node.With(before)
	another.Name = "another"
	n.MustPublish(t, another)

	if err := n.Cloud.AddIdentity(devcloud.Identity{Tenant: node.Tenant, ClientID: node.WorkloadID}); err != nil {
		t.Fatal(err)
	}
	n.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	const gone = asPod + `401 invalid_client, AADSTS70025: no federated credential of the application matches the pod's token; it needs one with subject ` +
		`"system:serviceaccount:shop:web", issuer "https://oidc.example.com/node", audience "api://AzureADTokenExchange"`
	pod := node.With(before)
	pod.Recreated = 2
	if err := n.Publish(t.Context(), pod); status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != gone {
		t.Errorf("a recreated pod: %v", err)
	}
	n.Token = func(_ context.Context, v kubelet.Volume) (string, error) {
		return n.Issuer.Token(devcloud.ServiceAccountToken{
			Namespace: v.Namespace, ServiceAccount: v.ServiceAccount, ServiceAccountUID: "recreated", PodName: v.PodName(), PodUID: v.PodUID(),
		})
	}
	pod.Recreated = 3
	if err := n.Publish(t.Context(), pod); status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != gone {
		t.Errorf("a pod of a recreated service account: %v", err)
	}
	n.Token = sign

	for _, v := range []kubelet.Volume{before, another} {
		if err := aging.Set(n.Target(v), time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		n.MustPublish(t, v)
		if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/a")); got != "rotated" {
			t.Errorf("%s reads %q", v.Name, got)
		}
	}
	if got := n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token"}); got != 5 {
		t.Errorf("Entra ID got %d requests, want once for each pod", got)
	}
}
