package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Decisions name the rule behind each answer of Allow.
func TestDecisions(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse([]byte(`rules:
- {effect: deny, namespaces: [shop], identities: [workload], vaults: ["https://pay*"]}
- {namespaces: [shop], identities: [workload]}
- {namespaces: [shop], identities: [managed], clientIDs: ["11111111-1111-1111-1111-111111111111"]}
- {effect: deny, namespaces: [shop], identities: [managed]}
`))
	if err != nil {
		t.Fatal(err)
	}
	const web, pay = "https://web.vault.azure.net", "https://pay.vault.azure.net"
	request := func(namespace string, kind volume.IdentityKind, vaults ...string) volume.Request {
		r := volume.Request{Pod: volume.Pod{Namespace: namespace, ServiceAccount: "web"}, Identity: volume.Identity{Kind: kind}}
		for _, vault := range vaults {
			r.Objects = append(r.Objects, volume.Object{Vault: vault})
		}
		return r
	}
	for name, tc := range map[string]struct {
		request volume.Request
		want    []policy.Decision
		allowed bool
	}{
		"allowed":             {request("shop", volume.Workload, web), []policy.Decision{{web, 1, true, false}}, true},
		"one vault is denied": {request("shop", volume.Workload, web, pay), []policy.Decision{{web, 1, true, false}, {pay, 0, false, false}}, false},
		"no rule":             {request("other", volume.Workload, web), []policy.Decision{{web, -1, false, false}}, false},
		"the token decides":   {request("shop", volume.Managed, web), []policy.Decision{{web, 3, false, true}}, true},
	} {
		if diff := cmp.Diff(tc.want, p.Decisions(tc.request)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if _, err := p.Allow(tc.request); (err == nil) != tc.allowed {
			t.Errorf("%s: Allow = %v", name, err)
		}
	}
}
