package daemon_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// vm is a node with one assigned identity, web, and optionally a system-assigned identity.
type vm struct {
	*node.Node
	policy, cluster string // files
}

func newVM(t *testing.T, own bool, flags ...string) *vm {
	t.Helper()
	dir := t.TempDir()
	m := &vm{policy: filepath.Join(dir, "policy.yaml"), cluster: filepath.Join(dir, "azure.json")}
	m.rules(t, "[]")
	replace(t, m.cluster, `{"useManagedIdentityExtension":true}`)
	m.Node = startWithMetadata(t, node.Options{Flags: append(flags, "--policy-file="+m.policy, "--cluster-identity-file="+m.cluster)})
	if own {
		systemAssigned(t, m.Node, node.Tenant, ownID)
	}
	m.assign(t, devcloud.Identity{ClientID: assignedID, ObjectID: objectID, ResourceID: resourceID})
	m.Vault.Grant(ownID)
	m.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	return m
}

func (m *vm) assign(t *testing.T, id devcloud.Identity) {
	t.Helper()
	id.Tenant, id.Managed = node.Tenant, true
	if err := m.Cloud.AddIdentity(id); err != nil {
		t.Fatal(err)
	}
	m.Vault.Grant(id.ClientID)
}

func (m *vm) rules(t *testing.T, rules string) {
	t.Helper()
	replace(t, m.policy, "rules: "+rules+"\n")
}

func (m *vm) pod(pairs ...string) kubelet.Volume {
	v := workload("clientID", "", "identity", "managed", "secrets", "a")
	v.NoToken = true
	return node.With(v, pairs...)
}

// spellings are the attributes that name web.
func (m *vm) spellings() map[string]kubelet.Volume {
	return map[string]kubelet.Volume{
		"client id": m.pod("clientID", assignedID), "object id": m.pod("objectID", objectID), "resource id": m.pod("resourceID", resourceID),
	}
}

const (
	own = "/subscriptions/5ca1ab1e-0000-4000-8000-000000000001/resourcegroups/dev/providers/microsoft.compute/virtualmachinescalesets/node"
	web = "/subscriptions/s/resourcegroups/g/providers/microsoft.managedidentity/userassignedidentities/web"
)

// answeredBy is a part of the error of a refusal.
func answeredBy(id string) string {
	return " at https://shop.vault.azure.net, answered by " + id + ": no rule of the policy file allows it; the operator must add one, such as "
}

// try publishes a new volume and unpublishes it.
func (m *vm) try(t *testing.T, what string, v kubelet.Volume, refusal string) {
	t.Helper()
	v.Name = "try"
	before := m.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault})
	err := m.Publish(t.Context(), v)
	switch {
	case refusal == "" && err != nil:
		t.Errorf("%s: %v, want it allowed", what, err)
	case refusal != "" && (status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), refusal)):
		t.Errorf("%s: %v, want PermissionDenied with %q", what, err, refusal)
	case refusal != "" && m.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault}) != before:
		t.Errorf("%s: the vault was asked for a pod that is refused", what)
	}
	m.Node.MustUnpublish(t, v)
}

// TestPolicyJudgesWhoAnswers checks that a rule applies to the identity that answers, however a pod names it.
func TestPolicyJudgesWhoAnswers(t *testing.T) {
	t.Parallel()
	m := newVM(t, true)
	for _, id := range []string{assignedID, strings.ToUpper(objectID), resourceID, "*/userAssignedIdentities/web"} {
		m.rules(t, `[{namespaces: ["*"], identities: [managed], clientIDs: ["`+id+`"]}]`)
		for spelling, v := range m.spellings() {
			m.try(t, "web by "+spelling+", allowed as "+id, v, "")
		}
		m.try(t, "the node's own, where "+id+" is allowed", m.pod(), answeredBy(own))
	}
	m.rules(t, `[{namespaces: ["*"], identities: [managed]}]`)
	m.try(t, "the node's own, where no id is listed", m.pod(), "")
	for spelling, v := range m.spellings() {
		m.try(t, "web by "+spelling+", where no id is listed", v, answeredBy(web))
	}
	m.rules(t, `[{namespaces: ["*"], identities: [managed], clientIDs: ["`+ownID+`"]}, {effect: deny, namespaces: ["*"], identities: [managed]}]`)
	m.try(t, "the node's own by its client id", m.pod(), "")
	for spelling, v := range m.spellings() {
		m.try(t, "web by "+spelling+", denied", v, ", answered by "+web+": rules[1] denies it; ")
	}
}

// On a node without a system-assigned identity, as on AKS, a pod that names no identity gets the only assigned one.
func TestPolicyJudgesTheOnlyAssignedIdentity(t *testing.T) {
	t.Parallel()
	m := newVM(t, false)
	m.rules(t, `[{namespaces: ["*"], identities: [managed, cluster]}]`)
	m.try(t, "no id, where no id is listed", m.pod(), "identity managed"+answeredBy(web)+
		`{namespaces: ["shop"], serviceAccounts: ["web"], identities: [managed], clientIDs: ["`+web+`"], vaults: ["https://shop.vault.azure.net"]}`)
	m.try(t, "the cluster's, where no id is listed", m.pod("identity", "cluster"), "")
	for _, id := range []string{assignedID, objectID, resourceID} {
		m.rules(t, `[{namespaces: ["*"], identities: [managed, cluster], clientIDs: ["`+id+`"]}]`)
		m.try(t, "no id, allowed as "+id, m.pod(), "")
		m.try(t, "the cluster's, allowed as "+id, m.pod("identity", "cluster"), "")
	}
	m.rules(t, `[{namespaces: ["*"], identities: [managed, cluster], clientIDs: ["`+nobodysID+`"]}]`)
	m.try(t, "no id, another is allowed", m.pod(), answeredBy(web))
	m.try(t, "the cluster's, another is allowed", m.pod("identity", "cluster"), "identity cluster"+answeredBy(web))

	m.assign(t, devcloud.Identity{ClientID: nobodysID})
	restart(t, m.Node) // the metadata service has still a token
	m.rules(t, `[{namespaces: ["*"], identities: [managed]}]`)
	refused(t, m.Node, m.pod(), codes.Unauthenticated, `secrets[0]: secret "a" of https://shop.vault.azure.net as managed: the node's metadata service `+
		"answered HTTP 400 invalid_request: several identities are assigned to the node; name one by clientID, objectID or resourceID")
}

// The current policy applies to values in the daemon's memory and to the next refresh.
func TestPolicyGuardsWhatIsInMemory(t *testing.T) {
	t.Parallel()
	m := newVM(t, true, "--mount-max-age=1h", "--last-known-good=24h")
	m.rules(t, `[{namespaces: ["*"], identities: [managed], clientIDs: ["`+assignedID+`"]}]`)
	v := m.pod("objectID", objectID)
	m.Node.MustPublish(t, v)
	m.rules(t, `[{namespaces: ["*"], identities: [managed], clientIDs: ["`+ownID+`"]}]`)
	m.try(t, "the next pod", v, answeredBy(web))
	m.Node.Age(t, v, time.Hour)
	if err := m.Publish(t.Context(), v); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), answeredBy(web)) {
		t.Errorf("the next refresh of an old set: %v, want Unavailable with the refusal", err)
	}
	if got := node.ReadFile(t, filepath.Join(m.Target(v), "secrets/a")); got != "value" {
		t.Errorf("the pod reads %q", got)
	}
}

func restart(t *testing.T, n *node.Node) {
	t.Helper()
	if _, err := n.StopDaemon(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
}
