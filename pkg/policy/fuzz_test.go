package policy_test

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// FuzzPolicy: any file is soon either rules or an error of one line, and a request that no rule can allow is refused with
// one line.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{
		"rules: []",
		"rules:\n- effect: allow\n  namespaces: [\"payments-*\"]\n  serviceAccounts: [\"*\"]\n  identities: [workload, cluster, managed]\n" +
			"  clientIDs: [\"1111*\"]\n  vaults: [\"https://pay-*.vault.azure.net\"]\n",
		"rules:\n- effect: deny\n  namespaces: [\"*\"]\n  identities: [managed]\n- namespaces: [\"*a*b*c*\"]\n  identities: [managed]\n",
		"rules: &a\n- &b {namespaces: [x], identities: [cluster]}\n- *b\n- {<<: *b, vaults: [\"*\"]}\n",
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\nrules: [*d,*d,*d,*d,*d,*d,*d]\n",
		"rules: \"\\e[31m\\x00\\n\\u2028\"", "rules: [{effect: \"\\e]0;x\\a\"}]", "\"\\e[2J\": 1\nrules: []", "rules: {a: b}", "rules: [[]]",
		"refreshAfter: 2026-11-27T14:00:00Z\nrules: [{namespaces: [a], identities: [managed], refreshAfter: &t 2026-11-27T14:00:00.5+01:00}, " +
			"{namespaces: [a], identities: [managed], refreshAfter: *t}]", "refreshAfter: \"\\e[31m\\x00\\n\"\nrules: []",
		"rules: []\n---\nrules: []", "rules: " + strings.Repeat("[", 3000) + strings.Repeat("]", 3000),
		"rules:\n- namespaces: [" + strings.Repeat("\"*\",", 200) + "]\n  identities: [managed]", "", "\x00", "---", "!!binary cnVsZXM6",
		"rules:\n- namespaces: [\"" + strings.Repeat("*a", 300) + "\"]\n  identities: [workload]",
	} {
		f.Add([]byte(text))
	}
	hostile := volume.Request{
		Pod:      volume.Pod{Name: "p", Namespace: strings.Repeat("a", 63), UID: "1", ServiceAccount: strings.Repeat("ab", 100)},
		Identity: volume.Identity{Kind: volume.Managed, ResourceID: "/subscriptions/" + strings.Repeat("a", 900)},
		Objects:  []volume.Object{{Kind: volume.KindSecret, Vault: payVault, Name: "a"}, {Kind: volume.KindSecret, Vault: shopVault, Name: "a"}},
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = time.Minute // of processor time, also on a slow machine
		took := suite.CPUTime(func() { checkPolicy(t, text, hostile) })
		if took > limit {
			t.Errorf("%d bytes took %v", len(text), took)
		}
	})
}

// checkPolicy reads a file and asks its rules for a request.
func checkPolicy(t *testing.T, text []byte, hostile volume.Request) {
	t.Helper()
	p, err := policy.Parse(text)
	if err != nil {
		checkLine(t, err)
		return
	}
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	if after := p.RefreshAfter(hostile, now); after.After(now) || after.After(p.LatestRefreshAfter()) {
		t.Errorf("refreshAfter %v, on %v; the latest is %v", after, now, p.LatestRefreshAfter())
	}
	permit, err := p.Allow(hostile)
	if permit != nil {
		err = permit(volume.Principal{ResourceID: "/subscriptions/" + strings.Repeat("a", 900)})
	}
	if err != nil {
		checkLine(t, err)
	}
	unknown := volume.Request{Identity: volume.Identity{Kind: "unknown"}, Objects: hostile.Objects}
	if _, err := p.Allow(unknown); err == nil {
		t.Error("an identity of a kind that there is not may read a vault")
	}
}

// checkLine: an error goes to logs, events and terminals.
func checkLine(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsAny(text, "\u2028\u2029") || text == "" {
		t.Errorf("%q is not one line of text", text)
	}
	if len(text) > 8<<10 {
		t.Errorf("the text has %d bytes", len(text))
	}
}
