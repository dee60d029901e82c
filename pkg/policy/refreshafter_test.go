package policy_test

import (
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// day is a time of the tests: 14:00 of a day of November 2026.
func day(n int) time.Time { return time.Date(2026, 11, n, 14, 0, 0, 0, time.UTC) }

// podOf is what the driver knows of a request before it has parsed the attributes.
func podOf(namespace, account string) volume.Request {
	return volume.Request{Pod: volume.Pod{Namespace: namespace, ServiceAccount: account}}
}

// TestRefreshAfter checks which refreshAfter applies to a request on 20 November. The number is its day; 0: none.
func TestRefreshAfter(t *testing.T) {
	t.Parallel()
	type row struct {
		request volume.Request
		want    int
	}
	for name, tc := range map[string]struct {
		rules string
		rows  []row
	}{
		"none": {`rules: [{namespaces: ["*"], identities: [workload]}]`, []row{{ask(volume.Workload), 0}, {podOf("payments", "api"), 0}}},
		"of the file, also for what no rule allows": {`{refreshAfter: 2026-11-10T14:00:00Z, rules: []}`, []row{
			{ask(volume.Workload), 10}, {ask(volume.Managed, at()), 10}, {podOf("payments", "api"), 10},
		}},
		"with an offset": {`{refreshAfter: 2026-11-10T15:30:00+01:30, rules: []}`, []row{{ask(volume.Workload), 10}}},
		"in quotes":      {`{refreshAfter: "2026-11-10T14:00:00.000Z", rules: []}`, []row{{ask(volume.Workload), 10}}},
		"now":            {`{refreshAfter: 2026-11-20T14:00:00Z, rules: []}`, []row{{ask(volume.Workload), 20}}},
		"not yet":        {`{refreshAfter: 2026-11-20T14:00:00.000000001Z, rules: []}`, []row{{ask(volume.Workload), 0}, {podOf("payments", "api"), 0}}},
		"the latest that is not in the future": {`
refreshAfter: 2026-11-21T14:00:00Z
rules:
- {namespaces: [payments], identities: [workload], refreshAfter: 2026-11-10T14:00:00Z}
- {namespaces: ["*"], identities: [workload, cluster]}`, []row{
			{ask(volume.Workload), 10}, {ask(volume.Cluster), 0}, {ask(volume.Workload, from("shop", "api")), 0},
		}},
		"of the rule that decides": {`
rules:
- {effect: deny, namespaces: [payments], serviceAccounts: [default], identities: [workload]}
- {namespaces: [payments], serviceAccounts: [api], identities: [workload]}
- {namespaces: ["pay*"], identities: [workload], refreshAfter: 2026-11-10T14:00:00Z}
- {namespaces: [payments], identities: [workload], refreshAfter: 2026-11-11T14:00:00Z}
- {namespaces: [payments], identities: [servicePrincipal], refreshAfter: 2026-11-12T14:00:00Z}`, []row{
			{ask(volume.Workload), 0}, {ask(volume.Workload, from("payments", "job")), 10}, {ask(volume.Workload, from("payments", "default")), 0},
			{ask(volume.ServicePrincipal), 12}, {ask(volume.Cluster), 0},
			{podOf("payments", "api"), 12}, {podOf("payroll", "api"), 10}, {podOf("shop", "api"), 0},
		}},
		"the latest of the file and of the rule": {`
refreshAfter: 2026-11-10T14:00:00Z
rules:
- {namespaces: [payments], identities: [workload], refreshAfter: 2026-11-09T14:00:00Z}
- {namespaces: [shop], identities: [workload], refreshAfter: 2026-11-11T14:00:00Z}`, []row{
			{ask(volume.Workload), 10}, {ask(volume.Workload, from("shop", "a")), 11},
		}},
		"the latest of several vaults": {`
rules:
- {namespaces: ["*"], identities: [workload], vaults: ["https://pay-*"], refreshAfter: 2026-11-10T14:00:00Z}
- {namespaces: ["*"], identities: [workload], vaults: ["https://shop.*"], refreshAfter: 2026-11-12T14:00:00Z}
- {namespaces: ["*"], identities: [workload]}`, []row{
			{ask(volume.Workload), 10}, {ask(volume.Workload, at(shopVault)), 12}, {ask(volume.Workload, at(payVault, shopVault)), 12},
			{ask(volume.Workload, at(shopVault, payVault)), 12}, {ask(volume.Workload, at("https://third.vault.azure.net")), 0},
			{ask(volume.Workload, at("https://third.vault.azure.net", payVault)), 10}, {podOf("payments", "api"), 12},
		}},
		"a vault that is denied, and one that is not": {`
rules:
- {effect: deny, namespaces: ["*"], identities: [workload], vaults: ["https://pay-*"]}
- {namespaces: ["*"], identities: [workload], refreshAfter: 2026-11-10T14:00:00Z}`, []row{
			{ask(volume.Workload), 0}, {ask(volume.Workload, at(payVault, shopVault)), 10},
		}},
		"by client id": {`
rules:
- {namespaces: ["*"], identities: [workload], clientIDs: ["` + someID + `"], refreshAfter: 2026-11-10T14:00:00Z}
- {namespaces: ["*"], identities: [workload], refreshAfter: 2026-11-09T14:00:00Z}`, []row{
			{ask(volume.Workload, client(someID)), 10}, {ask(volume.Workload, client(otherID)), 9},
		}},
		"each that may decide, where it depends on the identity in the token": {`
rules:
- {namespaces: ["*"], identities: [managed], clientIDs: ["` + someID + `"], refreshAfter: 2026-11-10T14:00:00Z}
- {namespaces: ["*"], identities: [managed], clientIDs: ["*"], refreshAfter: 2026-11-09T14:00:00Z}
- {namespaces: ["*"], identities: [managed], refreshAfter: 2026-11-11T14:00:00Z}`, []row{
			{ask(volume.Managed), 10}, {ask(volume.Managed, client(otherID)), 10},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Parse([]byte(tc.rules))
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range tc.rows {
				want := time.Time{}
				if row.want != 0 {
					want = day(row.want)
				}
				if got := p.RefreshAfter(row.request, day(20)); !got.Equal(want) {
					t.Errorf("row %d: %v, want %v", i, got, want)
				}
			}
		})
	}
	if got := policy.Default().RefreshAfter(ask(volume.Workload), day(20)); !got.IsZero() {
		t.Errorf("without a file: %v", got)
	}
}

func TestRefreshAfterErrors(t *testing.T) {
	t.Parallel()
	const form = " is no date and time of RFC 3339 with Z or an offset; write it as 2026-11-27T14:00:00Z"
	for _, tc := range []struct{ field, want string }{
		{"yesterday", `refreshAfter: "yesterday"` + form},
		{"2026-11-27", `refreshAfter: "2026-11-27"` + form},
		{"2026-11-27T14:00:00", `refreshAfter: "2026-11-27T14:00:00"` + form},
		{"2026-11-27 14:00:00Z", `refreshAfter: "2026-11-27 14:00:00Z"` + form},
		{"2026-13-27T14:00:00Z", `refreshAfter: "2026-13-27T14:00:00Z"` + form},
		{"0001-01-01T00:00:00Z", `refreshAfter: "0001-01-01T00:00:00Z"` + form},
		{`""`, `refreshAfter: ""` + form},
		{"17", `refreshAfter: "17"` + form},
		{"", "refreshAfter: has no value; write one, or leave the field out"},
		{"~", "refreshAfter: has no value; write one, or leave the field out"},
	} {
		for position, text := range map[string]string{
			"":          "refreshAfter: " + tc.field + "\nrules: []",
			"rules[1].": "rules:\n- {namespaces: [a], identities: [workload]}\n- namespaces: [a]\n  identities: [workload]\n  refreshAfter: " + tc.field,
		} {
			if _, err := policy.Parse([]byte(text)); err == nil || err.Error() != position+tc.want {
				t.Errorf("Parse(%q):\n got %v\nwant %s", text, err, position+tc.want)
			}
		}
	}
	const denies = "rules: [{effect: deny, namespaces: [a], identities: [workload], refreshAfter: 2026-11-27T14:00:00Z}]"
	const want = "rules[0].refreshAfter: a rule that denies lets nothing be fetched, and mounted volumes keep their files; " +
		"leave it out, and delete the pods that must lose their files"
	if _, err := policy.Parse([]byte(denies)); err == nil || err.Error() != want {
		t.Errorf("in a rule that denies:\n got %v\nwant %s", err, want)
	}
	if _, err := policy.Parse([]byte("refreshAfter: [2026-11-27T14:00:00Z]\nrules: []")); err == nil || err.Error() != "line 1: cannot unmarshal !!seq" {
		t.Errorf("a list: %v", err)
	}
}

// A File answers with the rules in force: those of the file, and the last good ones while it is broken.
func TestRefreshAfterOfAFile(t *testing.T) {
	t.Parallel()
	text := "{"
	f := policy.Open("/rules.yaml", func() ([]byte, error) { return []byte(text), nil }, func(error, bool) {})
	for _, step := range []struct {
		text         string
		want, latest int
	}{
		{"{", 0, 0},
		{"rules: []", 0, 0},
		{"refreshAfter: 2026-11-10T14:00:00Z\nrules: []", 10, 10},
		{"refreshAfter: soon\nrules: []", 10, 10},
		{"refreshAfter: 2026-11-22T14:00:00Z\nrules: [{namespaces: [payments], identities: [workload], refreshAfter: 2026-11-12T14:00:00Z}]", 12, 22},
		{"rules: [{namespaces: [payments], identities: [workload], refreshAfter: 2026-11-12T14:00:00Z}]", 12, 12},
	} {
		text = step.text
		want, latest := time.Time{}, time.Time{}
		if step.want != 0 {
			want, latest = day(step.want), day(step.latest)
		}
		if got := f.RefreshAfter(ask(volume.Workload), day(20)); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", step.text, got, want)
		}
		if got := f.LatestRefreshAfter(); !got.Equal(latest) {
			t.Errorf("%q: the latest is %v, want %v", step.text, got, latest)
		}
	}
}
