package policy_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	payVault  = "https://pay-live.vault.azure.net"
	shopVault = "https://shop.vault.azure.net"
	someID    = "11111111-2222-3333-4444-555555555555"
	otherID   = "66666666-7777-8888-9999-000000000000"
	resource  = "/subscriptions/s/resourceGroups/RG/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app"
)

// ask is a request of payments/api for one secret of the first vault, changed.
func ask(kind volume.IdentityKind, change ...func(*volume.Request)) volume.Request {
	r := volume.Request{
		Pod:      volume.Pod{Name: "api-0", Namespace: "payments", UID: "1", ServiceAccount: "api"},
		Identity: volume.Identity{Kind: kind},
	}
	at(payVault)(&r)
	for _, f := range change {
		f(&r)
	}
	return r
}

func at(vaults ...string) func(*volume.Request) {
	return func(r *volume.Request) {
		r.Objects = nil
		for _, vault := range vaults {
			r.Objects = append(r.Objects, volume.Object{Kind: volume.KindSecret, Vault: vault, Name: "a"})
		}
	}
}

// passwordAt adds a password of the first object.
func passwordAt(vault string) func(*volume.Request) {
	return func(r *volume.Request) {
		r.Objects[0].Password = &volume.Object{Kind: volume.KindSecret, Vault: vault, Name: "p"}
	}
}

func from(namespace, account string) func(*volume.Request) {
	return func(r *volume.Request) { r.Pod.Namespace, r.Pod.ServiceAccount = namespace, account }
}

func client(id string) func(*volume.Request) {
	return func(r *volume.Request) { r.Identity.ClientID = id }
}

func resourceID(id string) func(*volume.Request) {
	return func(r *volume.Request) { r.Identity.ResourceID = id }
}

// TestRules checks rules against requests. The number is the index of the rule that refuses the request; -1: no rule
// matches.
func TestRules(t *testing.T) {
	t.Parallel()
	const allowed, unmatched = -2, -1
	type row struct {
		request volume.Request
		want    int
	}
	for name, tc := range map[string]struct {
		rules string
		rows  []row
	}{
		"no rule at all": {"rules: []", []row{
			{ask(volume.Workload), unmatched}, {ask(volume.ServicePrincipal), unmatched},
			{ask(volume.Managed), unmatched}, {ask(volume.Cluster), unmatched}, {ask(""), unmatched},
		}},
		"by identity": {`rules: [{namespaces: ["*"], identities: [workload, cluster]}]`, []row{
			{ask(volume.Workload, client(someID)), allowed}, {ask(volume.Cluster), allowed},
			{ask(volume.ServicePrincipal, client(someID)), unmatched}, {ask(volume.Managed), unmatched},
			{ask("Workload"), unmatched}, {ask(""), unmatched},
		}},
		"by namespace": {`rules: [{namespaces: ["payments-*", shop, "*-dev-*"], identities: [cluster]}]`, []row{
			{ask(volume.Cluster, from("payments-eu", "a")), allowed}, {ask(volume.Cluster, from("payments-", "a")), allowed},
			{ask(volume.Cluster, from("shop", "a")), allowed}, {ask(volume.Cluster, from("x-dev-y", "a")), allowed},
			{ask(volume.Cluster, from("payments", "a")), unmatched}, {ask(volume.Cluster, from("my-payments-eu", "a")), unmatched},
			{ask(volume.Cluster, from("shop2", "a")), unmatched}, {ask(volume.Cluster, from("xdev-y", "a")), unmatched},
			{ask(volume.Cluster, from("", "a")), unmatched},
		}},
		"by service account": {`rules: [{namespaces: [payments], serviceAccounts: [api, "job-*"], identities: [cluster]}]`, []row{
			{ask(volume.Cluster), allowed}, {ask(volume.Cluster, from("payments", "job-1")), allowed},
			{ask(volume.Cluster, from("payments", "default")), unmatched}, {ask(volume.Cluster, from("other", "api")), unmatched},
		}},
		"by client id of a workload": {fmt.Sprintf(`rules: [{namespaces: ["*"], identities: [workload, servicePrincipal], clientIDs: [%q]}]`, someID), []row{
			{ask(volume.Workload, client(someID)), allowed}, {ask(volume.ServicePrincipal, client(someID)), allowed},
			{ask(volume.Workload, client(otherID)), unmatched}, {ask(volume.Workload, client(someID+"1")), unmatched},
		}},
		"by vault": {`rules: [{namespaces: ["*"], identities: [workload], vaults: ["https://PAY-*.vault.azure.net/"]}]`, []row{
			{ask(volume.Workload), allowed}, {ask(volume.Workload, at(payVault, payVault)), allowed},
			{ask(volume.Workload, at(shopVault)), unmatched}, {ask(volume.Workload, at(payVault, shopVault)), unmatched},
			{ask(volume.Workload, at(shopVault, payVault)), unmatched}, {ask(volume.Workload, at()), allowed},
			{ask(volume.Workload, passwordAt(payVault)), allowed}, {ask(volume.Workload, passwordAt(shopVault)), unmatched},
		}},
		"vaults of two rules": {`{rules: [{namespaces: ["*"], identities: [workload], vaults: ["*://pay-*"]}, {namespaces: ["*"], identities: [workload], vaults: ["https://shop.*"]}]}`, []row{
			{ask(volume.Workload, at(payVault, shopVault)), allowed},
			{ask(volume.Workload, at(payVault, shopVault, "https://third.vault.azure.net")), unmatched},
		}},
		"first match": {`
rules:
- {effect: deny, namespaces: [payments], serviceAccounts: [default], identities: [workload]}
- {effect: allow, namespaces: ["*"], identities: [workload]}
- {effect: deny, namespaces: ["*"], identities: [workload, cluster]}
- {namespaces: ["*"], identities: [cluster]}`, []row{
			{ask(volume.Workload), allowed}, {ask(volume.Workload, from("payments", "default")), 0},
			{ask(volume.Cluster), 2}, {ask(volume.Managed), unmatched},
		}},
		"a denial of a vault": {`
rules:
- {effect: deny, namespaces: ["*"], identities: [workload], vaults: ["https://pay-*"]}
- {namespaces: ["*"], identities: [workload]}`, []row{
			{ask(volume.Workload), 0}, {ask(volume.Workload, at(shopVault, payVault)), 0},
			{ask(volume.Workload, at(shopVault)), allowed}, {ask(volume.Workload, at()), allowed},
		}},
		"a denial without ids means all": {`
rules:
- {effect: deny, namespaces: [payments], identities: [managed]}
- {namespaces: ["*"], identities: [managed], clientIDs: ["*"]}`, []row{
			{ask(volume.Managed), 0}, {ask(volume.Managed, client(someID)), 0},
			{ask(volume.Managed, client(someID), from("shop", "a")), allowed},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Parse([]byte(tc.rules))
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range tc.rows {
				_, err := p.Allow(row.request)
				switch {
				case row.want == allowed && err != nil:
					t.Errorf("row %d: %v, want it allowed", i, err)
				case row.want != allowed && !errors.Is(err, volume.ErrDenied):
					t.Errorf("row %d: %v, want ErrDenied", i, err)
				case row.want >= 0 && !strings.Contains(err.Error(), fmt.Sprintf(": rules[%d] denies it; ", row.want)):
					t.Errorf("row %d: %v, want it refused by rules[%d]", i, err, row.want)
				case row.want == unmatched && !strings.Contains(err.Error(), ": no rule of the policy file allows it; "):
					t.Errorf("row %d: %v, want it unmatched", i, err)
				}
			}
		})
	}
}

// The whole text, once for each way to be refused.
func TestRefusals(t *testing.T) {
	t.Parallel()
	denies, err := policy.Parse([]byte(`rules: [{namespaces: [a], identities: [workload]}, {effect: deny, namespaces: ["*"], identities: [managed]}]`))
	if err != nil {
		t.Fatal(err)
	}
	const who = `the driver's policy does not let service account payments/api use identity `
	for _, tc := range []struct {
		policy  *policy.Policy
		request volume.Request
		want    string
	}{
		{policy.Default(), ask(volume.Cluster), who + `cluster at https://pay-live.vault.azure.net: without a policy file only workload and ` +
			`servicePrincipal are allowed; the operator must give one (--policy-file) with a rule such as {namespaces: ["payments"], ` +
			`serviceAccounts: ["api"], identities: [cluster], vaults: ["https://pay-live.vault.azure.net"]}`},
		{denies, ask(volume.Workload, client(someID), at()), who + `workload 11111111-2222-3333-4444-555555555555: no rule of the policy file allows it; ` +
			`the operator must add one, such as {namespaces: ["payments"], serviceAccounts: ["api"], identities: [workload], ` +
			`clientIDs: ["11111111-2222-3333-4444-555555555555"]}`},
		{denies, ask(volume.Managed, at(payVault, shopVault)), who + `managed at https://pay-live.vault.azure.net: rules[1] denies it; the operator ` +
			`must change that rule, or put before it one such as {namespaces: ["payments"], serviceAccounts: ["api"], identities: [managed], ` +
			`vaults: ["https://pay-live.vault.azure.net"]}`},
	} {
		_, err := tc.policy.Allow(tc.request)
		if err == nil || err.Error() != tc.want {
			t.Errorf("Allow:\n got %v\nwant %s", err, tc.want)
		}
		// The rule in the refusal allows the request.
		_, example, _ := strings.Cut(tc.want, " such as ")
		p, err := policy.Parse([]byte("rules: [" + example + "]"))
		if err != nil {
			t.Fatalf("the rule of the refusal: %v", err)
		}
		narrowed := tc.request
		if len(narrowed.Objects) > 0 {
			narrowed.Objects = narrowed.Objects[:1]
		}
		if _, err := p.Allow(narrowed); err != nil {
			t.Errorf("the rule of the refusal does not help: %v", err)
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	for kind, allowed := range map[volume.IdentityKind]bool{
		volume.Workload: true, volume.ServicePrincipal: true, volume.Managed: false, volume.Cluster: false,
		"": false, "Workload": false, // the words are exact: what is not known is refused
	} {
		if _, err := policy.Default().Allow(ask(kind)); (err == nil) != allowed || err != nil && !errors.Is(err, volume.ErrDenied) {
			t.Errorf("%q: %v, want allowed: %t", kind, err, allowed)
		}
	}
	var zero policy.Policy
	if _, err := zero.Allow(ask(volume.Workload)); !errors.Is(err, volume.ErrDenied) {
		t.Errorf("the zero value: %v, want ErrDenied", err)
	}
}

// What docs/security.md recommends against pods that reach any vault of the cloud is a policy, and does that.
func TestThePolicyOfTheSecurityPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## NetworkPolicies and vaults\n")
	_, rest, _ = strings.Cut(rest, "\n```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no such policy")
	}
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []volume.IdentityKind{volume.Workload, volume.ServicePrincipal} {
		for vault, allowed := range map[string]bool{
			"https://pay-prod.vault.azure.net": true, "https://pay-test.vault.azure.net": true, "https://elsewhere.vault.azure.net": false,
		} {
			request := ask(kind, at(vault))
			if _, err := policy.Default().Allow(request); err != nil {
				t.Errorf("without a policy: %v", err)
			}
			if _, err := p.Allow(request); (err == nil) != allowed {
				t.Errorf("%s, %s: %v", kind, vault, err)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	const noIDs = "clientIDs: a rule that denies managed or cluster names no ids; leave clientIDs out to deny all of them, " +
		"or write rules that allow the ids which may be used: what no rule allows is refused"
	for _, tc := range []struct{ text, want string }{
		{"", "is empty; a policy that refuses everything is written rules: []"},
		{"# nothing\n", "is empty; a policy that refuses everything is written rules: []"},
		{"{}", "rules: is missing; a policy that refuses everything is written rules: []"},
		{"rules:", "rules: is missing; a policy that refuses everything is written rules: []"},
		{"rules: 1", "line 1: cannot unmarshal !!int `1`"},
		{"rules: [\n", "line 1: did not find expected node content"},
		{"rulez: []", "line 1: field rulez not found"},
		{"rules: [{namespace: [a]}]", "line 1: field namespace not found"},
		{"rules: []\n---\nrules: []", "holds more than one YAML document"},
		{"rules: []\nrules: []", `line 2: mapping key "rules" already defined at line 1`},
		{"rules: [{identities: [workload]}]", "rules[0].namespaces: is missing"},
		{"rules: [{namespaces: [], identities: [workload]}]", "rules[0].namespaces: is an empty list, which matches nothing"},
		{"rules: [{namespaces: [''], identities: [workload]}]", "rules[0].namespaces[0]: is empty"},
		{"rules: [{namespaces: [a]}]", "rules[0].identities: is missing"},
		{"rules: [{namespaces: [a], identities: [workload, msi]}]", `rules[0].identities[1]: "msi" is none of workload, servicePrincipal, managed and cluster`},
		{`"\e[2J\x00\u2028": 1`, "line 1: field  [2J   not found"},
		{"rules: [{namespaces: [a], identities: [workload]}, {effect: forbid, namespaces: [a], identities: [workload]}]", `rules[1].effect: "forbid" is neither allow nor deny`},
		{"rules: [{namespaces: [a], identities: [workload], serviceAccounts: []}]", "rules[0].serviceAccounts: is an empty list, which matches nothing"},
		{"rules: [{namespaces: [a], identities: [managed], clientIDs: []}]", "rules[0].clientIDs: is an empty list, which matches nothing"},
		{"rules: [{namespaces: [a], identities: [workload], clientIDs: ['']}]", "rules[0].clientIDs[0]: is empty"},
		{"rules: [{effect: deny, namespaces: [a], identities: [managed], clientIDs: ['1111*']}]", "rules[0]." + noIDs},
		{"rules: [{effect: deny, namespaces: [a], identities: [workload, cluster], clientIDs: ['1111*']}]", "rules[0]." + noIDs},
		{"rules: [{namespaces: [a], identities: [managed], clientIDs: }]", "rules[0].clientIDs: has no value; write one, or leave the field out"},
		{"rules:\n- namespaces: [a]\n  identities: [workload]\n  vaults:\n  # - https://pay.vault.azure.net\n", "rules[0].vaults: has no value; write one, or leave the field out"},
		{"rules: [{namespaces: [a], identities: [workload]}, {namespaces: [a], identities: [workload], serviceAccounts: null}]", "rules[1].serviceAccounts: has no value; write one, or leave the field out"},
		{"rules: [{effect: ~, namespaces: [a], identities: [workload]}]", "rules[0].effect: has no value; write one, or leave the field out"},
		{"x: &x\nrules: []", "line 1: field x not found"},
		{"rules: [{namespaces: &none , identities: [workload], vaults: *none}]", "rules[0].namespaces: has no value; write one, or leave the field out"},
		{"rules: [{namespaces: [a], identities: [workload], vaults: ['https://pay.vault.azure.net/*']}]", `rules[0].vaults[0]: "https://pay.vault.azure.net/*" has a port or a path, and so matches no vault`},
		{"rules: [{effect: deny, namespaces: [a], identities: [workload], vaults: ['https://pay.vault.azure.net:443']}]", `rules[0].vaults[0]: "https://pay.vault.azure.net:443" has a port or a path, and so matches no vault`},
		{"rules: [{effect: deny, namespaces: [a], identities: [workload], vaults: ['*.vault.azure.net/*']}]", `rules[0].vaults[0]: "*.vault.azure.net/*" has a port or a path, and so matches no vault`},
		{"rules: [{namespaces: [a], identities: [workload], vaults: [shop]}]", `rules[0].vaults[0]: "shop" does not begin with https:// as every vault does, nor with *`},
		{"rules: [{effect: deny, namespaces: [a], serviceAccounts: [a/api], identities: [workload]}]", `rules[0].serviceAccounts[0]: "a/api" matches no name in Kubernetes, which has lower-case letters, digits, - and . only`},
		{"rules: [{effect: deny, namespaces: [Shop], identities: [workload]}]", `rules[0].namespaces[0]: "Shop" matches no name in Kubernetes, which has lower-case letters, digits, - and . only`},
		{"rules: [{effect: deny, namespaces: [a], identities: [workload], vaults: ['https://shop']}]", `rules[0].vaults[0]: "https://shop" has no domain, and so matches no vault; write all of it, such as https://NAME.vault.azure.net`},
	} {
		_, err := policy.Parse([]byte(tc.text))
		if err == nil || err.Error() != tc.want {
			t.Errorf("Parse(%q):\n got %v\nwant %s", tc.text, err, tc.want)
		}
	}
}
