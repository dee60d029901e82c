package login

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const clientID = "11111111-2222-3333-4444-555555555555"

func workload(podUID string) volume.Request {
	return volume.Request{
		Pod: volume.Pod{Namespace: "shop", Name: "web", UID: podUID, ServiceAccount: "web"},
		Identity: volume.Identity{
			Kind: volume.Workload, ClientID: clientID, TenantID: "contoso", Issuer: "https://issuer", ServiceAccountUID: "1",
			Assertion: volume.NewSecret([]byte("token of " + podUID)),
		},
	}
}

// Only callers with the same proof of a right to it share a token.
func TestKeyOf(t *testing.T) {
	t.Parallel()
	l := newLogins(t, Options{})
	principal := func(secret string) volume.Request {
		return volume.Request{Identity: volume.Identity{
			Kind: volume.ServicePrincipal, ClientID: clientID, TenantID: "contoso", ClientSecret: volume.NewSecret([]byte(secret)),
		}}
	}
	managed := func(tenant string) volume.Request {
		return volume.Request{Identity: volume.Identity{Kind: volume.Managed, ClientID: clientID, TenantID: tenant}}
	}
	change := func(r volume.Request, f func(*volume.Request)) volume.Request { f(&r); return r }
	for name, test := range map[string]struct {
		a, b volume.Request
		same bool
	}{
		"another pod of the service account": {workload("1"), workload("2"), true},
		"another namespace":                  {workload("1"), change(workload("1"), func(r *volume.Request) { r.Pod.Namespace = "other" }), false},
		"another service account":            {workload("1"), change(workload("1"), func(r *volume.Request) { r.Pod.ServiceAccount = "other" }), false},
		"one that was made anew":             {workload("1"), change(workload("1"), func(r *volume.Request) { r.Identity.ServiceAccountUID = "2" }), false},
		"another issuer":                     {workload("1"), change(workload("1"), func(r *volume.Request) { r.Identity.Issuer = "https://other" }), false},
		"the same secret":                    {principal("a"), principal("a"), true},
		"another secret":                     {principal("a"), principal("b"), false},
		"another tenant":                     {principal("a"), change(principal("a"), func(r *volume.Request) { r.Identity.TenantID = "other" }), false},
		"the node's have no tenant":          {managed("contoso"), managed("other"), true},
		"the cluster's own":                  {managed(""), change(managed(""), func(r *volume.Request) { r.Identity.Kind = volume.Cluster }), false},
	} {
		if same := l.KeyOf(test.a) == l.KeyOf(test.b); same != test.same {
			t.Errorf("%s: the same token %t, want %t", name, same, test.same)
		}
	}
}

// The proof of a pod ends with its last volume. Release reports the last volume of an identity.
func TestRelease(t *testing.T) {
	t.Parallel()
	l := newLogins(t, Options{})
	first, second := l.OwnerOf(workload("1")), l.OwnerOf(workload("2"))
	for _, owner := range []Owner{first, first, second} {
		l.Hold(owner)
	}
	login, err := l.Of(workload("1"), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	login.proofs.record(first.pod, nil)
	login.proofs.record(second.pod, nil)
	for i, step := range []struct {
		owner         Owner
		last          bool
		first, second bool // are proven
	}{{first, false, true, true}, {first, false, false, true}, {second, true, false, false}} {
		last := l.Release(step.owner)
		if last != step.last || l.Proven(first, "contoso") != step.first || l.Proven(second, "contoso") != step.second {
			t.Errorf("step %d: last %t, proven %t and %t; want %+v", i, last, l.Proven(first, "contoso"), l.Proven(second, "contoso"), step)
		}
	}
	if l.Proven(first, "fabrikam") {
		t.Error("proven in another tenant")
	}
}

// A login is dropped three minutes after its last use if no volume uses it, and after an hour in any case.
func TestTidy(t *testing.T) {
	t.Parallel()
	for held, lasts := range map[bool]time.Duration{false: departedLogin, true: idleLogin} {
		now := time.Now()
		l := newLogins(t, Options{Now: func() time.Time { return now }})
		if held {
			l.Hold(l.OwnerOf(workload("1")))
		}
		if _, err := l.Of(workload("1"), "contoso"); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			after time.Duration
			left  int
		}{{lasts, 1}, {1, 0}} {
			now = now.Add(step.after)
			l.Tidy()
			if logins, _ := l.Known(); logins != step.left {
				t.Errorf("held by a volume %t: %d logins %v later, want %d", held, logins, step.after, step.left)
			}
		}
	}
}

// The logins are bounded. Those without a token are dropped first, then the least recently used one.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLogins(t, Options{Now: func() time.Time { return now }})
	key := func(i int) Key { return l.KeyOf(workload("1")).InTenant(fmt.Sprintf("tenant-%d", i)) }
	for i := range maxLogins {
		login := l.newLogin(key(i), nil)
		login.used = now.Add(time.Duration(i-maxLogins) * time.Millisecond)
		if i > 0 {
			login.token.Token = "t"
		}
		l.known[key(i)] = login
	}
	for i, gone := range []int{0, maxLogins, 1} { // the second and the third replace one without and one with a token
		login, err := l.Of(workload("1"), fmt.Sprintf("tenant-%d", maxLogins+i))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := l.known[key(gone)]; ok || len(l.known) != maxLogins {
			t.Errorf("number %d is still there: %t, of %d logins", gone, ok, len(l.known))
		}
		if i > 0 {
			login.token.Token = "t"
		}
	}
}

// The login after a rejected one requests a new token, and keeps the proofs and the throttle. The rejection of a token that was renewed
// meanwhile has no effect.
func TestReject(t *testing.T) {
	t.Parallel()
	l := newLogins(t, Options{})
	before, err := l.Of(workload("1"), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	before.token.Token = "renewed"
	before.Reject("sent")
	if same, err := l.Of(workload("1"), "contoso"); err != nil || same != before {
		t.Errorf("a login whose token was renewed is replaced: %v", err)
	}
	before.Reject("renewed")
	after, err := l.Of(workload("1"), "contoso")
	if err != nil || after == before || after.proofs != before.proofs || after.throttle != before.throttle || after.HoldsToken() {
		t.Errorf("the same login %t, the same proofs %t and throttle %t: %v",
			after == before, after.proofs == before.proofs, after.throttle == before.throttle, err)
	}
}
