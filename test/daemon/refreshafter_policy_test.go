package daemon_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A refreshAfter of a rule is for the volumes for which the rule decides, by their namespace, identity and vaults.
func TestRefreshAfterOfARule(t *testing.T) {
	t.Parallel()
	l := newLeak(t, "--mount-max-age=1h")
	other, err := l.Cloud.AddVault("other", devcloud.VaultOptions{Tenant: node.Tenant})
	if err != nil {
		t.Fatal(err)
	}
	other.Grant(node.WorkloadID)
	other.SetSecret("b", "leaked", devcloud.SecretOptions{})
	pinned := l.Vault.SetSecret("pinned", "first", devcloud.SecretOptions{})
	never := []string{"rotationInterval", "0"}
	here, there := l.pod("here", never...), l.pod("there", append(never, "vault", "other", "objects", "[{secret: b, path: a}]")...)
	both := l.pod("both", append(never, "objects", "[{secret: a}, {secret: b, vault: other}, {secret: pinned, version: "+pinned+"}]")...)
	all := []kubelet.Volume{here, there, both}
	for _, v := range all {
		l.MustPublish(t, v)
	}
	l.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	other.SetSecret("b", "rotated", devcloud.SecretOptions{})
	l.restart(t) // so that the daemon knows neither the identities nor the vaults of the volumes
	before := l.requests()
	replace(t, l.policy, fmt.Sprintf(`
rules:
- {namespaces: [bank], identities: [workload], refreshAfter: %[1]q}
- {namespaces: [shop], identities: [workload, servicePrincipal], vaults: ["https://shop.*"], refreshAfter: %[1]q}
- {namespaces: ["*"], identities: [workload]}`, time.Now().Format(time.RFC3339Nano)))
	for range 2 {
		for _, v := range all {
			l.MustPublish(t, v)
		}
	}
	l.reads(t, here, "rotated")
	l.reads(t, there, "leaked")
	l.reads(t, both, "rotated")
	if got := node.ReadFile(t, filepath.Join(l.Target(both), "b")); got != "rotated" {
		t.Errorf("of the other vault the volume with both reads %q: a set is fetched as a whole", got)
	}
	if got := l.requests() - before; got != 3 {
		t.Errorf("%d requests, want 3: a, b and pinned", got)
	}
	l.isBefore(t, 0)
}

// A time in the future does nothing until it has come, and an invalid one leaves the last good rules in force. Neither needs a
// restart.
func TestRefreshAfterInTheFuture(t *testing.T) {
	t.Parallel()
	l := newLeak(t)
	v := l.pod("pod", "rotationInterval", "0")
	l.MustPublish(t, v)
	l.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	due := time.Now().Add(time.Hour).Truncate(time.Second)
	replace(t, l.policy, "refreshAfter: "+due.UTC().Format(time.RFC3339)+"\nrules: [{namespaces: [\"*\"], identities: [workload]}]")
	l.MustPublish(t, v)
	l.reads(t, v, "leaked")
	l.isBefore(t, 0)
	if got := l.MustMetric(t, "keyvault_csi_refresh_after_timestamp_seconds"); got != float64(due.Unix()) {
		t.Errorf("the metric of the policy's refreshAfter is %v, want %v", got, due.Unix())
	}
	replace(t, l.policy, "refreshAfter: 27.11.2026\nrules: [{namespaces: [\"*\"], identities: [workload]}]")
	l.MustPublish(t, v)
	const want = `refreshAfter: "27.11.2026" is no date and time of RFC 3339 with Z or an offset; write it as 2026-11-27T14:00:00Z`
	if _, page, err := l.Get(t.Context(), "/readyz"); err != nil || !strings.Contains(page, want+"; the last good rules hold") {
		t.Errorf("/readyz says %q, %v; want %q", page, err, want)
	}
	l.refreshAll(t)
	l.MustPublish(t, v)
	l.reads(t, v, "rotated")
}
