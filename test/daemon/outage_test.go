package daemon_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// With --last-known-good a pod starts while the vault is away, and the operator can see it; without, it does not start.
func TestAPodStartsInAnOutage(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--mount-max-age=0", "--last-known-good=1h"}, {"--mount-max-age=0"}} {
		n := start(t, node.Options{Flags: flags})
		n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
		v := workload("secrets", "db-password")
		publish(t, n, v)
		stop, err := n.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
		if err != nil {
			t.Fatal(err)
		}
		second := workload("secrets", "db-password")
		second.Name = "second"
		const text = `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
			"no answer from shop.vault.azure.net: the connection broke; check the network between the node and it"
		if err := n.Publish(t.Context(), second); len(flags) == 1 {
			if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != text {
				t.Errorf("without the flag: %v", err)
			}
			stop()
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(n.Target(second), "secrets/db-password")); got != "hunter2" {
			t.Errorf("the pod reads %q", got)
		}
		if got, want := health(t, n, second.ID(), n.Target(second)), "the files are the last that this node saw: "+text; got != want {
			t.Errorf("the volume's health is %q, want %q", got, want)
		}
		if got := health(t, n, v.ID(), n.Target(v)); got != "" {
			t.Errorf("the health of the volume that was there before is %q", got)
		}
		if !strings.Contains(n.Output(), "volume published without the vault") {
			t.Error("not logged")
		}
		_, page, err := n.Get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			`keyvault_csi_cache_requests_total{result="stale"} 1`, `keyvault_csi_cache_requests_total{result="miss"} 1`,
			`keyvault_csi_volumes{state="fresh"} 2`, `keyvault_csi_volumes{state="stale"} 0`,
			`keyvault_csi_vault_requests_total{code="none",kind="secret",vault="https://shop.vault.azure.net"} 3`,
			`keyvault_csi_token_requests_total{code="200",identity="workload"} 1`,
		} {
			if !strings.Contains(page, "\n"+line+"\n") {
				t.Errorf("/metrics has no %s", line)
			}
		}
		problems, err := promlint.New(strings.NewReader(page)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("promlint: %v, %v", problems, err)
		}
	}
}
