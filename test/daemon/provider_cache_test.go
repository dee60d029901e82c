package daemon_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// reads is the number of answered reads of secrets since the last call.
func reads(n *node.Node) int {
	defer n.Cloud.ResetCounts()
	return n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: "secrets/get", Status: 200})
}

// Pods with one identity share the values, whether they mount a class or a volume of our own, and polls ask no vault within the interval. A
// class always names its tenant, so the volume must do it too.
func TestProviderSharesTheCache(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true, Flags: []string{"--mount-max-age=1h", "--rotation-interval=1h"}})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	const pods = 5
	for i := range pods {
		class := node.Class(fmt.Sprint("web-", i), "objects", objects("a"))
		versions := mounted(t, n, class).GetObjectVersion()
		mounted(t, n, class, versions...)
	}
	if got := reads(n); got != 1 {
		t.Errorf("%d pods with one identity cost %d reads, want 1", pods, got)
	}
	v := workload("secrets", "a", "tenantID", node.Tenant)
	n.MustPublish(t, v)
	if got := reads(n); got != 0 || node.ReadFile(t, filepath.Join(n.Target(v), "secrets/a")) != "value" {
		t.Errorf("a volume of our own costs %d reads, want none", got)
	}

	n.Vault.SetSecret("b", "value", devcloud.SecretOptions{})
	v = workload("secrets", "b", "tenantID", node.Tenant)
	v.Name = "ours"
	n.MustPublish(t, v)
	wantFiles(t, n, node.Class("theirs", "objects", objects("b")), "b 0644 value")
	if got := reads(n); got != 1 {
		t.Errorf("a class after a volume of our own costs %d reads, want 1 for both", got)
	}
	n.MustUnpublish(t, v)

	class := node.Class("principal", "objects", objects("a"), "clientID", "")
	class.NoToken, class.Secret = true, map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}
	wantFiles(t, n, class, "a 0644 value")
	if got := reads(n); got != 1 {
		t.Errorf("another identity costs %d reads, want its own", got)
	}
	if got := n.MustMetric(t, `keyvault_csi_volumes{state="fresh"}`); got != 1 {
		t.Errorf("%v volumes are counted, want our own alone", got)
	}
	if got := n.MustMetric(t, `keyvault_csi_provider_requests_total{code="OK"}`); got != 2*pods+2 {
		t.Errorf("%v calls are counted, want %d", got, 2*pods+2)
	}
}

// With --last-known-good a pod with a class starts during an outage of the vault.
func TestProviderInAnOutage(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--mount-max-age=0", "--last-known-good=1h"}, {"--mount-max-age=0"}} {
		n := node.New(t, node.Options{Provider: true, Flags: flags})
		n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
		wantFiles(t, n, node.Class("before", "objects", objects("a")), "a 0644 value")
		if _, err := n.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset}); err != nil {
			t.Fatal(err)
		}
		during := node.Class("during", "objects", objects("a"))
		const text = `objects[0]: secret "a" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
			"no answer from shop.vault.azure.net: the connection broke; check the network between the node and it"
		if len(flags) == 1 {
			refusedMount(t, n, during, codes.Unavailable, text)
			continue
		}
		wantFiles(t, n, during, "a 0644 value")
		if log := n.Output(); !strings.Contains(log, "answered without the vault") || !strings.Contains(log, "the connection broke") {
			t.Error("not logged")
		}
	}
}

// In an outage every poll of every volume fails. The log has a failure once, and the metric each call.
func TestProviderLogsAFailureOnce(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	for range 3 {
		for _, name := range []string{"web", "api"} {
			_, err := n.Provider(t).Mount(t.Context(), n.MustMountRequest(t, node.Class(name, "objects", objects("no-such"))))
			if status.Code(err) != codes.NotFound {
				t.Fatalf("Mount: %v, want NotFound", err)
			}
		}
	}
	if got := strings.Count(n.Output(), `"call failed"`); got != 2 {
		t.Errorf("the failures of two volumes are logged %d times, want each once", got)
	}
	if got := n.MustMetric(t, `keyvault_csi_provider_requests_total{code="NotFound"}`); got != 6 {
		t.Errorf("%v calls are counted, want 6", got)
	}
}

// The Secrets Store CSI Driver lets gRPC repeat a call that ends with UNAVAILABLE. It would get the same answer, from memory.
func TestProviderIsNotRetried(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	if _, err := n.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset}); err != nil {
		t.Fatal(err)
	}
	const retry = `{"methodConfig": [{"name": [{"service": "v1alpha1.CSIDriverProvider"}], "waitForReady": true, "retryPolicy":
		{"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	client := n.Provider(t, grpc.WithDefaultServiceConfig(retry))
	_, err := client.Mount(t.Context(), n.MustMountRequest(t, node.Class("web", "objects", objects("a"))))
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("Mount: %v, want Unavailable", err)
	}
	if got := n.MustMetric(t, `keyvault_csi_provider_requests_total{code="Unavailable"}`); got != 1 {
		t.Errorf("%v calls are counted, want 1", got)
	}
}

// The Secrets Store CSI Driver has one connection for all calls. The pods of a namespace whose vault hangs leave room in it for others.
func TestProviderHangsForOneNamespace(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	if _, err := n.Cloud.AddVault("slow", devcloud.VaultOptions{Tenant: node.Tenant}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, n, node.Class("web", "objects", objects("a")), "a 0644 value")
	if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault, Host: "slow"}); err != nil {
		t.Fatal(err)
	}
	client := n.Provider(t)
	const calls = 300
	ctx, cancel := context.WithCancel(t.Context())
	var hanging sync.WaitGroup
	defer hanging.Wait()
	defer cancel()
	var ended atomic.Int64
	for i := range calls {
		class := node.Class(fmt.Sprint("slow-", i), "objects", objects(fmt.Sprint("a", i)), "keyvaultName", "slow")
		class.Namespace = "other"
		request := n.MustMountRequest(t, class)
		hanging.Go(func() {
			_, err := client.Mount(ctx, request)
			for err != nil && strings.Contains(err.Error(), "timed out") { // the third attempt at the vault
				_, err = client.Mount(ctx, request)
			}
			ended.Add(1)
		})
	}
	if err := n.Cloud.Wait(t.Context(), devcloud.CountKey{Host: "slow.vault.azure.net", Service: devcloud.ServiceVault}, 1); err != nil { // the first of them has arrived
		t.Fatal(err)
	}
	for _, name := range []string{"api", "jobs"} {
		_, err := client.Mount(suite.Context(t), n.MustMountRequest(t, node.Class(name, "objects", objects("a"))))
		if err != nil || ended.Load() > 0 {
			t.Errorf("beside %d calls of another namespace: %v, after %d of them had ended", calls, err, ended.Load())
		}
	}
}
