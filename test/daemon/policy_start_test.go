package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A daemon that starts with an invalid policy refuses all first publishes with the reason, and serves published volumes, until the file is
// repaired.
func TestStartWithAPolicyThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const good = `rules: [{namespaces: ["*"], identities: [workload]}]`
	for name, row := range map[string]struct{ text, why string }{
		"broken":  {"rules: [{namespaces: [a], identities: [msi]}]", `rules[0].identities[0]: "msi" is none of workload, servicePrincipal, managed and cluster`},
		"missing": {"", "no such file or directory"},
		"a denial of some of the node's identities": {`
rules:
- {effect: deny, namespaces: ["*"], identities: [managed], clientIDs: ["` + assignedID + `"]}
- {namespaces: ["*"], identities: [managed, workload], clientIDs: ["*"]}`,
			"rules[0].clientIDs: a rule that denies managed or cluster names no ids; leave clientIDs out to deny all of them, " +
				"or write rules that allow the ids which may be used: what no rule allows is refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "policy.yaml")
			replace(t, file, good)
			n := node.New(t, node.Options{Flags: []string{"--policy-file=" + file}})
			n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
			stays, goes, next := workload("secrets", "a"), workload("secrets", "a"), workload("secrets", "a")
			stays.Name, goes.Name, next.Name = "stays", "goes", "next"
			n.MustPublish(t, stays)
			n.MustPublish(t, goes)

			if _, err := n.StopDaemon(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if row.text != "" {
				replace(t, file, row.text)
			} else if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := n.StartDaemon(t.Context()); err != nil {
				t.Fatal(err)
			}
			problem := "the policy file " + file + " cannot be used: " + row.why + "; everything is refused until it can"
			n.Cloud.ResetCounts()
			if err := n.Publish(t.Context(), next); status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != problem {
				t.Errorf("the next pod: %v, want PermissionDenied: %s", err, problem)
			}
			n.Age(t, stays, 3*time.Minute)
			n.MustPublish(t, stays) // tolerated like every failed refresh
			if counts := n.Cloud.Counts(); len(counts) != 0 {
				t.Errorf("pods that are refused made requests: %v", counts)
			}
			n.MustUnpublish(t, goes)
			if got := node.ReadFile(t, filepath.Join(n.Target(stays), "secrets/a")); got != "value" {
				t.Errorf("the pod reads %q", got)
			}
			if all := mounts(t, n); len(all) != 1 {
				t.Errorf("there are %d mounts, want 1", len(all))
			}
			if code, body, err := n.Get(t.Context(), "/readyz"); code != 200 || body != "ok, but "+problem+"\n" {
				t.Errorf("/readyz: %d %q, %v, want 200 with %s", code, body, err, problem)
			}
			_, metrics, err := n.Get(t.Context(), "/metrics")
			if want := "\nkeyvault_csi_policy_reload_errors_total 1\n"; err != nil || !strings.Contains(metrics, want) {
				t.Errorf("the metrics lack %q", want)
			}
			if want := `the policy file cannot be used; everything is refused until it can" err=`; !strings.Contains(n.Output(), want) {
				t.Errorf("the log lacks %q", want)
			}

			replace(t, file, good)
			n.MustPublish(t, next)
			if code, body, err := n.Get(t.Context(), "/readyz"); code != 200 || body != "ok\n" {
				t.Errorf("/readyz of the repaired policy: %d %q, %v", code, body, err)
			}
		})
	}
}
