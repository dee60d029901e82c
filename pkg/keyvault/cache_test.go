package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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

const interval = 2 * time.Minute

func maxAge(d time.Duration) func(*keyvault.Options) {
	return func(o *keyvault.Options) { o.MountMaxAge = d }
}

// first is the first publish of a volume, refresh a later one.
func first(id string, r volume.Request) volume.Request {
	r.Volume, r.RotationInterval = id, interval
	return r
}

func refresh(id string, r volume.Request) volume.Request {
	r = first(id, r)
	r.Refresh = true
	return r
}

func ten() []volume.Object {
	var objects []volume.Object
	for i := range 10 {
		objects = append(objects, secret(fmt.Sprintf("s%d", i)))
	}
	return objects
}

// gets counts the vaults' answers with an object or a list.
func (w *fixture) gets() int {
	return w.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Status: 200})
}

func TestTwoHundredPodsAtOnce(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour))
	for _, object := range ten() {
		w.vault.SetSecret(object.Name, "x", devcloud.SecretOptions{})
	}
	var pods sync.WaitGroup
	for i := range 200 {
		pods.Go(func() {
			r := first(fmt.Sprint("volume", i), w.pod(fmt.Sprint(i), ten()...))
			content, err := w.client.Fetch(t.Context(), r)
			if err != nil || len(content.Files) != 10 {
				t.Errorf("%d files, %v", len(content.Files), err)
			}
		})
	}
	pods.Wait()
	want := map[string]int{
		"vault secrets/get Unauthorized": 1, "login token OK": 200, "vault secrets/get OK": 10,
	}
	if diff := cmp.Diff(want, w.requests()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A thousand volumes of twenty identities: in every round each object is requested once per identity.
func TestRoundsOfRotation(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour))
	for _, object := range ten() {
		w.vault.SetSecret(object.Name, "x", devcloud.SecretOptions{})
	}
	const identities, volumes = 20, 1000
	var requests []volume.Request
	for i := range identities {
		subject := fmt.Sprintf("web-%d", i)
		id := fmt.Sprintf("22222222-0000-0000-0000-%012d", 100+i)
		w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: id, Federated: []devcloud.FederatedCredential{
			{Issuer: issuerURL, Subject: "system:serviceaccount:shop:" + subject},
		}}))
		w.vault.Grant(id)
		r := w.asWorkload(ten()...)
		r.Pod.ServiceAccount, r.Identity.ClientID = subject, id
		r.Identity.Assertion = w.token(devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: subject})
		requests = append(requests, r)
	}
	round := func(of func(string, volume.Request) volume.Request) int {
		w.ResetCounts()
		next := make(chan int)
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() {
				for i := range next {
					if _, err := w.client.Fetch(t.Context(), of(fmt.Sprint("volume", i), requests[i%identities])); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range volumes {
			next <- i
		}
		close(next)
		callers.Wait()
		return w.gets()
	}
	for i, of := range []func(string, volume.Request) volume.Request{first, refresh, refresh} {
		if got := round(of); got != 10*identities {
			t.Errorf("round %d: %d requests to the vault, want %d", i, got, 10*identities)
		}
		w.later(interval + time.Minute)
	}
}

func TestFirstMountsShareRecentValues(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(10*time.Second))
	pinned := secret("a")
	pinned.Version = w.vault.SetSecret("a", "first", devcloud.SecretOptions{})
	pinned.Outputs[0].Path = "pinned"
	fetch := func() (files map[string]string, fetched time.Time, cost int) {
		t.Helper()
		w.ResetCounts()
		content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a"), pinned))
		w.must(err)
		files = map[string]string{}
		for _, file := range content.Files {
			files[file.Path] = string(file.Data.Reveal())
		}
		return files, content.Fetched, w.gets()
	}
	began := w.now()
	_, fetched, _ := fetch()
	w.vault.SetSecret("a", "second", devcloud.SecretOptions{})
	w.later(9 * time.Second)
	files, again, cost := fetch()
	if files["a"] != "first" || cost != 0 || !again.Equal(fetched) || fetched.Before(began) {
		t.Errorf("after 9s: %v for %d requests, fetched at %v and %v", files, cost, fetched, again)
	}
	w.later(time.Second)
	files, again, cost = fetch()
	if diff := cmp.Diff(map[string]string{"a": "second", "pinned": "first"}, files); diff != "" || cost != 2 || again.Sub(fetched) < 10*time.Second {
		t.Errorf("after 10s: %d requests, fetched %v later, %s", cost, again.Sub(fetched), diff)
	}
}

// A refresh costs one request per object for all volumes, reports the true age, and does not read pinned versions.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(10*time.Second))
	pinned := secret("p")
	pinned.Version = w.vault.SetSecret("p", "for ever", devcloud.SecretOptions{})
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("app-1", "x", devcloud.SecretOptions{})
	all := w.asServicePrincipal(secret("a"), pinned, selection(volume.Selection{Prefix: "app-"}))
	for _, id := range []string{"one", "two"} {
		_, err := w.client.Fetch(t.Context(), first(id, all))
		w.must(err)
	}
	fetch := func(r volume.Request, want int) volume.Content {
		t.Helper()
		w.ResetCounts()
		content, err := w.client.Fetch(t.Context(), r)
		w.must(err)
		if got := w.gets(); got != want {
			t.Errorf("%d requests, want %d", got, want)
		}
		return content
	}
	w.later(interval + time.Minute)
	began := w.now()
	one := fetch(refresh("one", all), 3) // a, the list and app-1
	if one.Fetched.Before(began) {
		t.Errorf("the pinned version makes the set look %v older than it is", began.Sub(one.Fetched))
	}
	fetch(first("four", all), 1) // the pinned version too, so that a revocation is detected
	w.later(time.Minute)
	two := fetch(refresh("two", all), 0)
	if !two.Fetched.Equal(one.Fetched) {
		t.Errorf("what was fetched at %v is given out as of %v", one.Fetched, two.Fetched)
	}
	fetch(refresh("one", all), 3) // it has values of that time, so its clock must be wrong
	fetch(refresh("two", all), 0)
	fetch(refresh("three", all), 0) // another instance of the driver has fetched for it
	w.later(10 * time.Second)
	fetch(first("four", all), 4)
	if one.Outage != nil {
		t.Error(one.Outage)
	}
}

// Volumes that become due at the same moment on several nodes do not all ask at that moment.
func TestRefreshesAreSpread(t *testing.T) {
	t.Parallel()
	var w *fixture
	var waits []time.Duration
	w = newFixture(t, func(o *keyvault.Options) {
		o.After = func(d time.Duration) <-chan time.Time {
			waits = append(waits, d)
			w.later(d)
			return time.After(0)
		}
	})
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	r := refresh("one", w.asServicePrincipal(secret("a")))
	w.fetch(first("one", r))
	for range 20 {
		w.later(interval)
		w.fetch(r)
	}
	if len(waits) < 15 { // the time that the test itself takes may exceed it
		t.Fatalf("waited %d times in 20 refreshes", len(waits))
	}
	if longest := slices.Max(waits); longest > interval/20 {
		t.Errorf("waited for %v", longest)
	}
	if waits[0] == waits[1] && waits[1] == waits[2] {
		t.Errorf("always %v", waits[0])
	}
}

// A value of one identity is not given to another, however fresh it is and however similar the identities are.
func TestTheCacheIsNotShared(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(24*time.Hour), func(o *keyvault.Options) { o.LastKnownGood = 24 * time.Hour })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(first("sp", w.asServicePrincipal(secret("a"))))
	w.fetch(first("wl", w.asWorkload(secret("a"))))
	wrong := w.asServicePrincipal(secret("a"))
	wrong.Identity.ClientSecret = volume.NewSecret([]byte("guessed"))
	tenant := w.asServicePrincipal(secret("a"))
	tenant.Identity.TenantID = otherTenantID
	granted := w.asServicePrincipal(secret("a"))
	granted.Identity.ClientID = otherClientID
	w.vault.Deny(otherClientID)
	strangers := []volume.Request{wrong, tenant, granted}
	for _, pod := range []volume.Pod{{Namespace: "shop", ServiceAccount: "other"}, {Namespace: "other", ServiceAccount: "web"}} {
		r := w.asWorkload(secret("a"))
		r.Pod = pod
		r.Identity.Assertion = w.token(devcloud.ServiceAccountToken{Namespace: pod.Namespace, ServiceAccount: pod.ServiceAccount})
		strangers = append(strangers, r)
	}
	for i, stranger := range strangers {
		for _, r := range []volume.Request{first("sp", stranger), refresh("sp", stranger), refresh("wl", stranger)} {
			if content, err := w.client.Fetch(t.Context(), r); err == nil || content.Files != nil {
				t.Errorf("stranger %d was served", i)
			}
		}
	}
	w.ResetCounts()
	w.fetch(w.asServicePrincipal(secret("a")))
	w.fetch(w.asWorkload(secret("a")))
	if n := w.gets(); n != 0 {
		t.Errorf("the refusals of strangers cost the owners %d requests", n)
	}
}

// A failed fetch answers the next ones: for 2 s after a refusal, for 10 to 30 s after a failure of the vault.
func TestFailuresPause(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		fault       devcloud.Fault
		after, most time.Duration // the pause
	}{
		{"404", devcloud.Fault{Action: devcloud.Fail, Status: 404}, 1900 * time.Millisecond, 2 * time.Second},
		{"403", devcloud.Fault{Action: devcloud.Fail, Status: 403}, 1900 * time.Millisecond, 2 * time.Second},
		{"401", devcloud.Fault{Action: devcloud.Fail, Status: 401}, 1900 * time.Millisecond, 2 * time.Second},
		{"500", devcloud.Fault{Action: devcloud.Fail, Status: 500}, 9 * time.Second, 30 * time.Second},
		{"reset", devcloud.Fault{Action: devcloud.Reset}, 9 * time.Second, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			skew := w.now() // the test's own time does not count
			w.client = w.newClient(func(o *keyvault.Options) {
				o.Now = func() time.Time { return skew.Add(time.Duration(w.ahead.Load())) }
			})
			w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("a")))
			test.fault.Service = devcloud.ServiceVault
			stop := w.inject(test.fault)
			_, refused := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a")))
			stop()
			w.ResetCounts()
			w.later(test.after)
			other := secret("a")
			other.Source = "objects[3]"
			_, err := w.client.Fetch(t.Context(), w.asServicePrincipal(other))
			if refused == nil || err == nil || err.Error() != strings.Replace(refused.Error(), "secrets[0]", "objects[3]", 1) || len(w.requests()) != 0 {
				t.Errorf("after %v: %v, want the same again as %v; requests: %v", test.after, err, refused, w.requests())
			}
			w.later(test.most - test.after)
			w.fetch(w.asServicePrincipal(secret("a")))
		})
	}
}

// An absent optional object costs no more requests than a present one.
func TestAbsentObjectsAreRemembered(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(10*time.Second))
	absent := secret("absent")
	absent.Optional = true
	one, two := first("one", w.asServicePrincipal(absent)), first("two", w.asServicePrincipal(absent))
	w.fetch(one)
	w.later(time.Minute)
	w.fetch(two)
	one.Refresh = true
	w.ResetCounts()
	w.fetch(one)
	if n := len(w.requests()); n != 0 {
		t.Errorf("a refresh asked again, %d requests", n)
	}
	w.vault.SetSecret("absent", "here now", devcloud.SecretOptions{})
	w.later(2 * time.Second)
	if files := w.fetch(first("three", two)); files["absent"] != "here now" {
		t.Errorf("a first mount got %v", files)
	}
}

func TestLastKnownGood(t *testing.T) {
	t.Parallel()
	const text = asSP + "no answer from shop.vault.azure.net: the connection broke; check the network between the node and it"
	on := func(o *keyvault.Options) { o.LastKnownGood = time.Hour }
	w := newFixture(t, on)
	w.vault.SetSecret("a", "seen", devcloud.SecretOptions{})
	before := w.now()
	w.fetch(w.asServicePrincipal(secret("a")))
	w.fetch(w.asWorkload(secret("a")))
	after := w.now()
	stop := w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	w.later(50 * time.Minute)
	content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a")))
	w.must(err)
	if got := string(content.Files[0].Data.Reveal()); got != "seen" || content.Fetched.Before(before) || content.Fetched.After(after) {
		t.Errorf("got %q of %v", got, content.Fetched)
	}
	if content.Outage == nil || content.Outage.Error() != text || !errors.Is(content.Outage, volume.ErrUnavailable) {
		t.Errorf("the outage is %v, want %s", content.Outage, text)
	}
	w.fails(refresh("one", w.asServicePrincipal(secret("a"))), volume.ErrUnavailable, text) // it has files
	w.later(11 * time.Minute)
	w.fails(w.asServicePrincipal(secret("a")), volume.ErrUnavailable, text) // too old
	stop()
	w.later(time.Minute)
	w.fetch(w.asServicePrincipal(secret("a")))
	w.fetch(w.asServicePrincipal(secret("a")))

	off := w.newClient()
	_, err = off.Fetch(t.Context(), w.asServicePrincipal(secret("a")))
	w.must(err)
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	if _, err = off.Fetch(t.Context(), w.asServicePrincipal(secret("a"))); !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("switched off: %v", err)
	}
}

// A refused value is never served again, however the vault fails afterwards.
func TestLastKnownGoodIsLostWithARefusal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		refuse func(*fixture)
	}{
		{"403", func(w *fixture) { w.vault.Deny(clientID) }},
		{"404", func(w *fixture) {
			w.must(w.vault.Delete(devcloud.Secrets, "a"))
			w.must(w.vault.Delete(devcloud.Secrets, "b"))
		}},
		{"401 for another object", func(w *fixture) {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets/b", Action: devcloud.Fail, Status: 401, Times: 2}) // also with a new token
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, func(o *keyvault.Options) { o.LastKnownGood = time.Hour })
			w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
			w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("a"), secret("b")))
			test.refuse(w)
			for _, name := range []string{"b", "a"} {
				_, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret(name)))
				if (err == nil) != (test.name == "401 for another object" && name == "a") {
					t.Errorf("%s: %v", name, err)
				}
				if name == "b" && err != nil && test.name == "401 for another object" {
					break
				}
			}
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
			w.later(time.Minute)
			for _, name := range []string{"b", "a"} {
				if _, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret(name))); !errors.Is(err, volume.ErrUnavailable) {
					t.Errorf("%s in the outage: %v", name, err)
				}
			}
		})
	}
}

// One 429 stops the requests of every identity to this vault, and to no other. Callers that cannot wait for so long
// fail at once. The others get their files after that time, and no request is sent before.
func TestA429StopsAllRequestsToAVault(t *testing.T) {
	t.Parallel()
	var w *fixture
	waited := make(chan time.Duration, 100)
	release := make(chan struct{})
	w = newFixture(t, func(o *keyvault.Options) {
		o.After = func(d time.Duration) <-chan time.Time {
			waited <- d
			timer := make(chan time.Time, 1)
			go func() { <-release; timer <- time.Time{} }()
			return timer
		}
	})
	other := w.addVault("other", tenantID)
	other.Grant(clientID)
	for _, vault := range []*devcloud.Vault{w.vault, other} {
		vault.SetSecret("a", "x", devcloud.SecretOptions{})
		vault.SetSecret("b", "x", devcloud.SecretOptions{})
	}
	elsewhere := secret("a")
	elsewhere.Vault = other.URL()
	w.fetch(w.asServicePrincipal(secret("a"), func() volume.Object { o := elsewhere; o.Outputs = nil; return o }()))
	w.fetch(w.asWorkload(secret("a")))
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Host: "shop", Action: devcloud.Throttle, RetryAfter: 20 * time.Second, Times: 1})
	w.ResetCounts()

	done := make(chan error, 1)
	go func() {
		_, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a")))
		done <- err
	}()
	select {
	case wait := <-waited:
		if wait < 20*time.Second || wait > 22*time.Second+time.Second {
			t.Errorf("waits for %v", wait)
		}
	case err := <-done:
		t.Fatalf("nobody waits: %v", err)
	}
	for _, r := range []volume.Request{w.asWorkload(secret("b")), w.asServicePrincipal(secret("b"))} {
		_, err := w.client.Fetch(timeLeft{t.Context(), 10 * time.Second}, r)
		if !errors.Is(err, volume.ErrUnavailable) || !strings.HasSuffix(err.Error(), "HTTP 429 Throttled: the vault is throttled; it is asked again later") {
			t.Errorf("in time for 10s: %v", err)
		}
	}
	if _, err := w.client.Fetch(t.Context(), w.asServicePrincipal(elsewhere)); err != nil {
		t.Errorf("another vault: %v", err)
	}
	if n := w.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Host: "shop.vault.azure.net"}); n != 1 {
		t.Errorf("%d requests while the vault throttles, want the one that was refused", n)
	}
	w.later(25 * time.Second)
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the one who waited: %v", err)
	}
}

// Memory is bounded: the most recently used value is kept.
func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	w := newFixture(t, maxAge(time.Hour), func(o *keyvault.Options) { o.CacheBytes = 100_000 })
	for i := range 10 {
		w.vault.SetSecret(fmt.Sprintf("s%d", i), strings.Repeat("x", 20_000), devcloud.SecretOptions{})
	}
	w.vault.SetSecret("small", strings.Repeat("x", 5000), devcloud.SecretOptions{})
	cost := func(name string) int {
		w.ResetCounts()
		w.fetch(w.asServicePrincipal(secret(name)))
		return w.gets()
	}
	for i := range 10 {
		cost("s0") // used repeatedly
		cost(fmt.Sprintf("s%d", i))
	}
	if got := []int{cost("s0"), cost("s9"), cost("s8"), cost("s7"), cost("s1")}; !cmp.Equal(got, []int{0, 0, 0, 0, 1}) {
		t.Errorf("requests %v", got)
	}
	w.later(59 * time.Minute)
	if cost("small") != 1 || cost("s9") != 0 {
		t.Error("dropped too early")
	}
	if got := w.client.Cached(); got > 100_000 || got < 60_000 {
		t.Errorf("%d bytes", got)
	}
	w.fetch(first("holder", w.asServicePrincipal(secret("small"))))
	w.later(2 * time.Hour)
	cost("s9")
	w.later(2 * time.Minute)
	cost("s8")
	if got := w.client.Cached(); got < 41_000 || got > 43_000 {
		t.Errorf("%d bytes, want those of s8 and s9 and the entry of small, which a volume holds", got)
	}
	w.client.Forget("holder")
	w.client.Forget("holder")
	w.client.Forget("nobody")
	w.later(2 * time.Hour)
	cost("s9")
	if got := w.client.Cached(); got > 22_000 {
		t.Errorf("%d bytes, want those of s9", got)
	}
}

// A fetch outlives its first caller if others wait for it, and ends with the last.
func TestAFetchEndsWithItsLastCaller(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	stop := w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Hang})
	w.ResetCounts()
	begin := func() (cancel func(), ended chan error) {
		ctx, cancel := context.WithCancel(t.Context())
		ended = make(chan error, 1)
		waiting := w.client.Waiting()
		go func() {
			_, err := w.client.Fetch(ctx, w.asServicePrincipal(secret("a")))
			ended <- err
		}()
		for w.client.Waiting() == waiting {
			runtime.Gosched()
		}
		return cancel, ended
	}
	leave, left := begin()
	_, stays := begin()
	w.must(w.Wait(t.Context(), devcloud.CountKey{Kind: "secrets/get"}, 1))
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := w.Count(devcloud.CountKey{Kind: "secrets/get"}); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	stop()
	if err := <-stays; err != nil {
		t.Errorf("the one who stays: %v", err)
	}
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Hang})
	leave, left = begin()
	leave()
	<-left
	if n := w.client.Waiting(); n != 0 {
		t.Errorf("%d wait after all have left", n)
	}
}
