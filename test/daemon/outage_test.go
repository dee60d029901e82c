package daemon_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// With --last-known-good a pod starts during an outage of the vault, and the operator can see it. Without, it does not start.
func TestAPodStartsInAnOutage(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--mount-max-age=0", "--last-known-good=1h"}, {"--mount-max-age=0"}} {
		n := node.New(t, node.Options{Flags: flags})
		n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
		v := workload("secrets", "db-password")
		n.MustPublish(t, v)
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
		if got := node.ReadFile(t, filepath.Join(n.Target(second), "secrets/db-password")); got != "hunter2" {
			t.Errorf("the pod reads %q", got)
		}
		if got, want := health(t, n, second.ID(), n.Target(second)), "the files are the last that this node saw: "+text; got != want {
			t.Errorf("the volume's health is %q, want %q", got, want)
		}
		if got := health(t, n, v.ID(), n.Target(v)); got != "" {
			t.Errorf("the health of the earlier volume is %q", got)
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
			`keyvault_csi_token_requests_total{code="200",identity="workload"} 2`, // one for each pod
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

// A volume without rotation that was published in an outage is refreshed once after the outage, also by the next process.
func TestAnOutageIsNotForEver(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0", "--last-known-good=1h"}})
	n.Vault.SetSecret("db-password", "old", devcloud.SecretOptions{})
	n.MustPublish(t, workload("secrets", "db-password"))
	stop, err := n.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	if err != nil {
		t.Fatal(err)
	}
	v := workload("secrets", "db-password", "rotationInterval", "0")
	v.Name = "never"
	file := filepath.Join(n.Target(v), "secrets/db-password")
	n.MustPublish(t, v)
	restart := func() { // also ends the pause after a failure of the vault
		if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := n.StartDaemon(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	n.MustPublish(t, v) // still in the outage
	if got := health(t, n, v.ID(), n.Target(v)); node.ReadFile(t, file) != "old" || !strings.Contains(got, "the connection broke") {
		t.Errorf("the pod reads %q, and the volume's health is %q", node.ReadFile(t, file), got)
	}

	stop()
	n.Vault.SetSecret("db-password", "new", devcloud.SecretOptions{})
	restart()
	n.MustPublish(t, v)
	if got := node.ReadFile(t, file); got != "new" {
		t.Errorf("after the outage the pod reads %q", got)
	}
	if got := health(t, n, v.ID(), n.Target(v)); got != "" {
		t.Errorf("the volume's health is %q", got)
	}
	n.Vault.SetSecret("db-password", "newer", devcloud.SecretOptions{})
	n.MustPublish(t, v)
	if got := node.ReadFile(t, file); got != "new" {
		t.Errorf("a volume that is never refreshed reads %q", got)
	}
}
