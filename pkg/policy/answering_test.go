package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const vm = "/subscriptions/s/resourcegroups/rg/providers/microsoft.compute/virtualmachinescalesets/nodes"

func objectID(id string) func(*volume.Request) {
	return func(r *volume.Request) { r.Identity.ObjectID = id }
}

// The identities in tokens, in lower case.
func app() volume.Principal {
	return volume.Principal{ClientID: someID, ObjectID: "aaaaaaaa-0000-0000-0000-000000000001", ResourceID: strings.ToLower(resource)}
}

func kubelet() volume.Principal {
	p := app()
	p.ClientID, p.ObjectID, p.ResourceID = otherID, "aaaaaaaa-0000-0000-0000-000000000002", strings.TrimSuffix(p.ResourceID, "app")+"kubelet"
	return p
}

func own() volume.Principal {
	return volume.Principal{ClientID: "bbbbbbbb-0000-0000-0000-000000000001", ObjectID: "bbbbbbbb-0000-0000-0000-000000000002", ResourceID: vm}
}

// silent is a token without an id.
func silent() volume.Principal { return volume.Principal{} }

// TestAnswering checks rules against the identities in tokens, for each way in which a pod can name them.
func TestAnswering(t *testing.T) {
	t.Parallel()
	spellings := []volume.Request{
		ask(volume.Managed), ask(volume.Managed, client(someID)), ask(volume.Managed, objectID(app().ObjectID)), ask(volume.Managed, resourceID(resource)),
		ask(volume.Managed, client(otherID)),
	}
	for name, tc := range map[string]struct {
		rules                       string
		app, kubelet, own, unspoken bool // allowed
	}{
		"no ids":           {`rules: [{namespaces: ["*"], identities: [managed, workload]}]`, false, false, true, false},
		"a client id":      {rulesWith(strings.ToUpper(someID)), true, false, false, false},
		"an object id":     {rulesWith(app().ObjectID), true, false, false, false},
		"a resource id":    {rulesWith(resource), true, false, false, false},
		"a resource group": {rulesWith("/subscriptions/S/resourcegroups/rg/providers/Microsoft.ManagedIdentity/*"), true, true, false, false},
		"the machine":      {rulesWith(vm), false, false, true, false},
		"two ids":          {rulesWith(someID, otherID), true, true, false, false},
		"another's":        {rulesWith("cccccccc*"), false, false, false, false},
		"any":              {rulesWith("1*", "*"), true, true, true, true},
		"one, then the rest denied": {`
rules:
- {namespaces: ["*"], identities: [managed], clientIDs: ["` + someID + `"]}
- {effect: deny, namespaces: ["*"], identities: [managed]}
- {namespaces: ["*"], identities: [managed], clientIDs: ["*"]}`, true, false, false, false},
		"any, then a denial": {`
rules:
- {namespaces: ["*"], identities: [managed], clientIDs: ["*"]}
- {effect: deny, namespaces: ["*"], identities: [managed]}`, true, true, true, true},
		"any is denied first": {`
rules:
- {effect: deny, namespaces: ["*"], identities: [managed], clientIDs: ["*"]}
- {namespaces: ["*"], identities: [managed], clientIDs: ["` + someID + `"]}`, false, false, false, false},
		"a denial in another namespace": {`
rules:
- {effect: deny, namespaces: [shop], identities: [managed]}
- {namespaces: ["*"], identities: [managed]}
- {namespaces: ["*"], identities: [managed], clientIDs: ["` + someID + `"]}`, true, false, true, false},
		"cluster": {`rules: [{namespaces: ["*"], identities: [cluster]}]`, false, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Parse([]byte(tc.rules))
			if err != nil {
				t.Fatal(err)
			}
			for who, want := range map[volume.Principal]bool{app(): tc.app, kubelet(): tc.kubelet, own(): tc.own, silent(): tc.unspoken} {
				for i, request := range spellings {
					if err := judge(p, request, who); (err == nil) != want || err != nil && !errors.Is(err, volume.ErrDenied) {
						t.Errorf("spelling %d, answered by %+v: %v, want allowed: %t", i, who, err, want)
					}
				}
			}
		})
	}
}

func rulesWith(ids ...string) string {
	return fmt.Sprintf(`rules: [{namespaces: ["*"], identities: [managed], clientIDs: ["%s"]}]`, strings.Join(ids, `", "`))
}

// judge asks as the driver does: at once, and then, if it matters, with the identity in the token.
func judge(p *policy.Policy, r volume.Request, who volume.Principal) error {
	permit, err := p.Allow(r)
	if err != nil || permit == nil {
		return err
	}
	return permit(who)
}

// The cluster's identity is any that the node's file names, unless a rule says which.
func TestAnsweringForTheCluster(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string][3]bool{ // for own, for kubelet, for a service principal
		`rules: [{namespaces: ["*"], identities: [cluster]}]`:                                                           {true, true, true},
		`rules: [{namespaces: ["*"], identities: [cluster], clientIDs: ["` + otherID + `"]}]`:                           {false, true, false},
		`rules: [{namespaces: ["*"], identities: [cluster], clientIDs: ["cccccccc-*"]}]`:                                {false, false, true},
		`rules: [{namespaces: ["*"], identities: [managed], clientIDs: ["*"]}]`:                                         {},
		`rules: [{effect: deny, namespaces: ["*"], identities: [managed]}, {namespaces: ["*"], identities: [cluster]}]`: {true, true, true},
		`rules: [{effect: deny, namespaces: ["*"], identities: [cluster]}, {namespaces: ["*"], identities: [cluster]}]`: {},
	} {
		p, err := policy.Parse([]byte(rules))
		if err != nil {
			t.Fatal(err)
		}
		for i, who := range []volume.Principal{own(), kubelet(), {ClientID: "cccccccc-0000-0000-0000-000000000001"}} {
			if err := judge(p, ask(volume.Cluster), who); (err == nil) != want[i] {
				t.Errorf("%s answered by %+v: %v, want allowed: %t", rules, who, err, want[i])
			}
		}
	}
}

// Each vault is checked with the identity in the token: a rule for one vault is not enough.
func TestAnsweringAtEachVault(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse([]byte(`
rules:
- {namespaces: ["*"], identities: [managed], clientIDs: ["` + someID + `"], vaults: ["https://pay-*"]}
- {namespaces: ["*"], identities: [managed], clientIDs: ["` + otherID + `"]}`))
	if err != nil {
		t.Fatal(err)
	}
	both := ask(volume.Managed, at(payVault, shopVault))
	if err := judge(p, both, app()); err == nil || !strings.Contains(err.Error(), "identity managed at "+shopVault+", answered by "+app().ResourceID+": no rule") {
		t.Errorf("got %v", err)
	}
	if err := judge(p, both, kubelet()); err != nil {
		t.Error(err)
	}
}

// There is no permit if the identity in the token does not matter.
func TestWhoAnswersDoesNotMatter(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse([]byte(`
rules:
- {namespaces: ["*"], identities: [workload, servicePrincipal], clientIDs: ["` + someID + `"]}
- {namespaces: [payments], identities: [cluster]}
- {namespaces: [payments], identities: [managed], clientIDs: ["*"]}
- {namespaces: [shop], identities: [managed]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []volume.Request{
		ask(volume.Workload, client(someID)), ask(volume.ServicePrincipal, client(someID)), ask(volume.Cluster), ask(volume.Managed), ask(volume.Managed, client(otherID)),
	} {
		if permit, err := p.Allow(request); err != nil || permit != nil {
			t.Errorf("%s: permit %t, %v, want none and no error", request.Identity.Kind, permit != nil, err)
		}
	}
	if _, err := p.Allow(ask(volume.Managed, from("bank", "api"))); !errors.Is(err, volume.ErrDenied) {
		t.Errorf("a namespace with no rule: %v, want ErrDenied at once", err)
	}
	if permit, err := p.Allow(ask(volume.Managed, from("shop", "api"))); err != nil || permit == nil {
		t.Errorf("a rule for the system-assigned identity: permit %t, %v, want one", permit != nil, err)
	}
}

// The whole text, once for each way to be refused for the identity in the token, with a rule that helps.
func TestAnsweringRefusals(t *testing.T) {
	t.Parallel()
	const who, pod = `the driver's policy does not let service account payments/api use identity `, `{namespaces: ["payments"], serviceAccounts: ["api"], identities: `
	const atVault = `vaults: ["https://pay-live.vault.azure.net"]}`
	const add = `: no rule of the policy file allows it; the operator must add one, such as `
	for _, tc := range []struct {
		rules     string
		request   volume.Request
		principal volume.Principal
		want      string
	}{
		{rulesWith("cccccccc*"), ask(volume.Managed), kubelet(), who + `managed at https://pay-live.vault.azure.net, answered by ` + kubelet().ResourceID + add + pod +
			`[managed], clientIDs: ["` + kubelet().ResourceID + `"], ` + atVault},
		{rulesWith("cccccccc*"), ask(volume.Managed, client(someID)), own(), who + `managed ` + someID + ` at https://pay-live.vault.azure.net, answered by ` + vm + add + pod +
			`[managed], ` + atVault},
		{rulesWith("cccccccc*"), ask(volume.Managed), volume.Principal{ObjectID: "o", ClientID: someID}, who + `managed at https://pay-live.vault.azure.net, answered by ` + someID + add + pod +
			`[managed], clientIDs: ["` + someID + `"], ` + atVault},
		{rulesWith("cccccccc*"), ask(volume.Managed), silent(), who + `managed at https://pay-live.vault.azure.net: its token does not say whose it is ` +
			`(it has none of the claims xms_mirid, appid, azp and oid); the operator would have to allow whoever answers, by a rule such as ` + pod +
			`[managed], clientIDs: ["*"], ` + atVault},
		{`rules: [{namespaces: ["*"], identities: [cluster], clientIDs: ["cccccccc*"]}]`, ask(volume.Cluster), own(), who + `cluster at https://pay-live.vault.azure.net, answered by ` + vm + add + pod +
			`[cluster], clientIDs: ["` + vm + `"], ` + atVault},
		{`rules: [{namespaces: ["*"], identities: [managed]}, {effect: deny, namespaces: ["*"], identities: [managed]}]`, ask(volume.Managed), app(),
			who + `managed at https://pay-live.vault.azure.net, answered by ` + app().ResourceID + `: rules[1] denies it; the operator must change that rule, or put before it one such as ` + pod +
				`[managed], clientIDs: ["` + app().ResourceID + `"], ` + atVault},
	} {
		p, err := policy.Parse([]byte(tc.rules))
		if err != nil {
			t.Fatal(err)
		}
		if err := judge(p, tc.request, tc.principal); err == nil || err.Error() != tc.want || !errors.Is(err, volume.ErrDenied) {
			t.Errorf("refusal:\n got %v\nwant %s", err, tc.want)
		}
		_, example, _ := strings.Cut(tc.want, " such as ")
		helped, err := policy.Parse([]byte("rules: [" + example + "]"))
		if err != nil {
			t.Fatalf("the rule of the refusal: %v", err)
		}
		if err := judge(helped, tc.request, tc.principal); err != nil {
			t.Errorf("the rule of the refusal does not help: %v", err)
		}
	}
}
