package keyvault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// pod is a request of one pod of the service account shop/web, as volume.Parse makes it from a kubelet's call.
func (w *fixture) pod(uid string, objects ...volume.Object) volume.Request {
	return w.podOf("account-1", uid, objects...)
}

// podOf is the same for a service account with another UID.
func (w *fixture) podOf(account, uid string, objects ...volume.Object) volume.Request {
	r := w.asWorkload(objects...)
	r.Pod.UID, r.Pod.Name = uid, "web-"+uid
	r.Identity.Issuer, r.Identity.ServiceAccountUID, r.Identity.BoundPodUID = issuerURL, account, uid
	r.Identity.Assertion = w.token(devcloud.ServiceAccountToken{
		Namespace: "shop", ServiceAccount: "web", ServiceAccountUID: account, PodName: r.Pod.Name, PodUID: uid,
	})
	return r
}

// forged is a request whose token has the right names but an invalid signature.
func forged(r volume.Request) volume.Request {
	token := r.Identity.Assertion.Reveal()
	signed := bytes.LastIndexByte(token, '.') + 1
	r.Identity.Assertion = volume.NewSecret(slices.Concat(token[:signed], bytes.Repeat([]byte("A"), len(token)-signed)))
	return r
}

// unfederate deletes the federated credential, as an operator does when a cluster or namespace is gone.
func (w *fixture) unfederate() {
	w.t.Helper()
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID}))
}

func (w *fixture) federate() {
	w.t.Helper()
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID, Federated: []devcloud.FederatedCredential{
		{Issuer: issuerURL, Subject: "system:serviceaccount:shop:web"},
	}}))
}

// logins counts the requests to Entra ID since the counts were reset.
func (w *fixture) logins() int {
	return w.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token"})
}

const (
	refusedPause = 2 * time.Second
	failedMost   = 30 * time.Second

	unfederated = asWorkload + `Entra ID answered HTTP 401 invalid_client, AADSTS70025: no federated credential of the application matches the pod's token; ` +
		`it needs one with subject "system:serviceaccount:shop:web", issuer "https://issuer.example.com/cluster", audience "api://AzureADTokenExchange"`
)

// After the federated credential is deleted, a shared login serves the pods with a proof while its token lasts, and
// no later pod: neither from the cache nor from the vault, whatever the names in its token.
func TestANewPodProvesItself(t *testing.T) {
	t.Parallel()
	for name, newcomer := range map[string]func(*fixture) volume.Request{
		"another pod":                             func(w *fixture) volume.Request { return w.pod("2", secret("a")) },
		"the pod of a recreated service account":  func(w *fixture) volume.Request { return w.podOf("account-2", "2", secret("a")) },
		"the same pod, of another account's UID":  func(w *fixture) volume.Request { return w.podOf("account-2", "1", secret("a")) },
		"a pod whose token names no UID":          func(w *fixture) volume.Request { r := w.asWorkload(secret("a")); r.Pod.UID = "2"; return r },
		"a pod whose token names another pod":     func(w *fixture) volume.Request { r := w.pod("2", secret("a")); r.Pod.UID = "1"; return r },
		"a refresh of a volume of another driver": func(w *fixture) volume.Request { return refresh("two", w.pod("2", secret("a"))) },
	} {
		for _, age := range []time.Duration{0, 50 * time.Minute} { // the value is in the cache, or only the token
			t.Run(fmt.Sprint(name, " after ", age), func(t *testing.T) {
				t.Parallel()
				w := newFixture(t, maxAge(time.Minute), func(o *keyvault.Options) { o.LastKnownGood = time.Hour })
				w.vault.SetSecret("a", "old", devcloud.SecretOptions{})
				first := first("one", w.pod("1", secret("a")))
				w.fetch(first)
				w.unfederate()
				w.vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
				w.later(age)
				w.fails(newcomer(w), volume.ErrUnauthenticated, unfederated)
				w.ResetCounts()
				w.fails(newcomer(w), volume.ErrUnauthenticated, unfederated) // again, for two seconds
				if n := len(w.requests()); n != 0 {
					t.Errorf("the same refusal again cost %v", w.requests())
				}
				w.later(refusedPause)
				w.fails(newcomer(w), volume.ErrUnauthenticated, unfederated)
				first.Refresh = true
				w.later(time.Minute)
				if got := w.fetch(first)["a"]; got != "rotated" {
					t.Errorf("the pod that was there before reads %q", got)
				}
				if n := w.logins(); n != 1 {
					t.Errorf("%d logins, want that of the newcomer", n)
				}
			})
		}
	}
}

// A forged token gets nothing, and does not affect the pods with the same names.
func TestAForgedTokenAffectsNoOtherPod(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour), func(o *keyvault.Options) { o.LastKnownGood = time.Hour })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	w.ResetCounts()
	for range 3 {
		for _, object := range []volume.Object{secret("a"), secret("b")} {
			_, err := w.client.Fetch(t.Context(), forged(w.pod("2", object)))
			if !errors.Is(err, volume.ErrUnauthenticated) || !strings.Contains(err.Error(), "AADSTS50013") {
				t.Errorf("a forged token: %v", err)
			}
		}
		w.fetch(w.pod("1", secret("a")))
		w.later(refusedPause)
	}
	want := map[string]int{"login token Bad Request": 3}
	if diff := cmp.Diff(want, w.requests()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.inject(devcloud.Fault{Action: devcloud.Reset, Service: devcloud.ServiceVault})
	w.later(time.Hour - time.Minute)
	w.fetch(w.pod("1", secret("a"))) // the last known value
}

// A pod proves itself once, with its own assertion. Then it shares the values of the others.
func TestAPodProvesItselfOnce(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(10*time.Second))
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	one, two := w.pod("1", secret("a"), secret("b")), w.pod("2", secret("a"), secret("b"))
	second := w.pod("2", secret("a"))
	for _, step := range []struct {
		name           string
		request        volume.Request
		after          time.Duration
		logins, values int
	}{
		{"the first pod", first("one", one), 0, 1, 2},
		{"another", first("two", two), 0, 1, 0},
		{"another volume of it", first("two b", second), 0, 0, 0},
		{"its refresh", refresh("two", two), interval, 0, 2},
		{"the refresh of the first", refresh("one", one), time.Minute, 0, 0},
		{"of the second volume", refresh("two b", second), 0, 0, 0},
	} {
		w.later(step.after)
		w.ResetCounts()
		w.fetch(step.request)
		if logins, values := w.logins(), w.gets(); logins != step.logins || values != step.values {
			t.Errorf("%s: %d logins and %d requests to the vault, want %d and %d", step.name, logins, values, step.logins, step.values)
		}
	}

	w.client = w.newClient() // the driver restarts
	for i, r := range []volume.Request{refresh("one", one), refresh("two", two), refresh("two b", second)} {
		w.ResetCounts()
		w.fetch(r)
		if n := w.logins(); n != 1 && i < 2 || n != 0 && i == 2 {
			t.Errorf("after a restart: %d logins for volume %d", n, i)
		}
	}
}

// The proof of a pod ends with its last volume.
func TestAProofEndsWithTheLastVolume(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour))
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(first("of another", w.pod("1", secret("a"))))
	pod := w.pod("2", secret("a"))
	w.fetch(first("one", pod))
	w.fetch(first("two", pod))
	w.client.Forget("one")
	w.client.Forget("failed")
	w.ResetCounts()
	w.fetch(first("three", pod))
	if n := w.logins(); n != 0 {
		t.Errorf("%d logins while a volume of the pod is there", n)
	}
	w.client.Forget("two")
	w.client.Forget("three")
	w.unfederate()
	w.fails(first("four", pod), volume.ErrUnauthenticated, unfederated)
	w.fetch(first("five", w.pod("1", secret("a"))))
}

// Pods that start together prove themselves one by one, and share everything else.
func TestABurstOfPodsProvesItself(t *testing.T) {
	t.Parallel()
	const pods = 100
	w := newFixture(t, maxAge(time.Hour))
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	requests := make([]volume.Request, pods)
	for i := range requests {
		requests[i] = first(fmt.Sprint("volume", i), w.pod(fmt.Sprint(i), secret("a")))
	}
	together := func() {
		var running sync.WaitGroup
		for _, r := range requests {
			running.Go(func() {
				if _, err := w.client.Fetch(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	together()
	want := map[string]int{"vault secrets/get Unauthorized": 1, "login token OK": pods, "vault secrets/get OK": 1}
	if diff := cmp.Diff(want, w.requests()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.ResetCounts()
	for i := range requests {
		requests[i].Refresh = true
	}
	w.later(interval + time.Minute)
	together()
	if diff := cmp.Diff(map[string]int{"vault secrets/get OK": 1}, w.requests()); diff != "" {
		t.Errorf("a refresh of all (-want +got):\n%s", diff)
	}
}

// While Entra ID cannot be reached, no pod can prove itself. Only pods with a proof are served, with the token and
// with the last known values.
func TestNoNewProofInAnOutage(t *testing.T) {
	t.Parallel()
	const down = asWorkload + "no answer from login.microsoftonline.com: the connection broke; check the network between the node and it"
	w := newFixture(t, maxAge(time.Hour), func(o *keyvault.Options) { o.LastKnownGood = 2 * time.Hour })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	stop := w.inject(devcloud.Fault{Action: devcloud.Reset, Service: devcloud.ServiceLogin})
	w.fails(w.pod("2", secret("a")), volume.ErrUnavailable, down)
	w.ResetCounts()
	w.fails(w.pod("3", secret("a")), volume.ErrUnavailable, down)
	if n := len(w.requests()); n != 0 {
		t.Errorf("the next pod asked again at once: %v", w.requests())
	}
	w.fetch(w.pod("1", secret("a"), secret("b")))
	w.later(80 * time.Minute) // the token has expired
	w.fetch(first("another", w.pod("1", secret("a"))))
	w.fails(w.pod("2", secret("a")), volume.ErrUnavailable, down)
	stop()
	w.later(failedMost)
	w.fetch(w.pod("2", secret("a")))

	w.inject(devcloud.Fault{Action: devcloud.Reset, Service: devcloud.ServiceVault})
	w.later(90 * time.Minute)
	w.fetch(w.pod("4", secret("a"))) // it can prove itself while the vault cannot be reached
}

// A pod without a proof gets no known value, so it waits for Entra ID until its deadline.
func TestNoLastKnownValueWithoutAProof(t *testing.T) {
	t.Parallel()
	w := newFixture(t, func(o *keyvault.Options) {
		o.LastKnownGood = time.Hour
		o.After = func(time.Duration) <-chan time.Time { return time.After(0) } // callers that wait for a vault lose patience at once
	})
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.pod("1", secret("a")))
	w.inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceLogin})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := w.client.Fetch(ctx, w.pod("2", secret("a")))
	if want := asWorkload + "waiting for Entra ID: context deadline exceeded"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Pods without a proof do not cause more requests to a vault that does not name its tenant.
func TestAFailedVaultPausesForNewPodsToo(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	stop := w.inject(devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceVault})
	_, refused := w.client.Fetch(t.Context(), w.pod("1", secret("a")))
	w.ResetCounts()
	for _, uid := range []string{"1", "2"} {
		if _, err := w.client.Fetch(t.Context(), w.pod(uid, secret("a"))); !errors.Is(err, volume.ErrUnavailable) || err.Error() != refused.Error() {
			t.Errorf("pod %s: %v, want %v", uid, err, refused)
		}
	}
	if n := len(w.requests()); n != 0 {
		t.Errorf("asked again at once: %v", w.requests())
	}
	stop()
	w.later(failedMost)
	w.fetch(w.pod("1", secret("a")))
}

// A throttling vault does not affect the proof of a pod that is served from memory.
func TestAPodProvesItselfWhileTheVaultThrottles(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour))
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	w.inject(devcloud.Fault{Action: devcloud.Throttle, RetryAfter: time.Hour, Service: devcloud.ServiceVault})
	if _, err := w.client.Fetch(t.Context(), w.pod("1", secret("b"))); !errors.Is(err, volume.ErrUnavailable) {
		t.Error(err)
	}
	w.fetch(first("two", w.pod("2", secret("a"))))
}

// When Entra ID refuses a shared login, the proofs of all its pods end.
func TestARefusedLoginEndsAllProofs(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour), func(o *keyvault.Options) { o.LastKnownGood = 24 * time.Hour })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	w.fetch(first("two", w.pod("2", secret("a"))))
	w.unfederate()
	w.later(2 * time.Hour) // the token has expired
	w.fails(refresh("one", w.pod("1", secret("a"))), volume.ErrUnauthenticated, unfederated)
	w.ResetCounts()
	w.fails(refresh("two", w.pod("2", secret("a"))), volume.ErrUnauthenticated, unfederated)
	w.later(refusedPause)
	w.fails(w.pod("2", secret("a")), volume.ErrUnauthenticated, unfederated)
	if n := w.logins(); n != 2 {
		t.Errorf("%d logins, want one for each attempt of the second pod", n)
	}
	w.federate()
	w.later(refusedPause)
	w.fetch(refresh("one", w.pod("1", secret("a"))))
	w.fetch(refresh("two", w.pod("2", secret("a"))))
}

// A vault that refuses the token does not end the proofs of pods: only Entra ID does.
func TestARefusalByAVaultKeepsTheProofs(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour))
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	for _, uid := range []string{"1", "2", "3"} {
		w.fetch(w.pod(uid, secret("a")))
	}
	w.ResetCounts()
	w.inject(devcloud.Fault{Action: devcloud.Fail, Status: 401, Service: devcloud.ServiceVault, Times: 1})
	for _, uid := range []string{"1", "2", "3"} {
		w.fetch(w.pod(uid, secret("b")))
	}
	if n := w.logins(); n != 1 {
		t.Errorf("%d logins after a 401 of the vault, want the one for a new token", n)
	}
}
