package reads_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/reads"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	shop     = "https://shop.vault.azure.net"
	clientID = "22222222-0000-0000-0000-000000000001"
	version  = "9d90276b377b4d9ea10763c153a2f015"
)

var began = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// vaultOf answers with the secrets that it has, by name, and counts the requests.
type vaultOf struct {
	secrets map[string]string
	slow    string        // the secret that it answers only after ready is closed
	ready   chan struct{} // the same

	mu    sync.Mutex
	asked map[string]int
}

func (v *vaultOf) RoundTrip(req *http.Request) (*http.Response, error) {
	respond := func(status int, body, name, value string) (*http.Response, error) {
		return suite.Response(req, status, body, name, value), nil
	}
	if req.Header.Get("Authorization") == "" {
		return respond(http.StatusUnauthorized, "", "Www-Authenticate",
			`Bearer authorization="https://login.microsoftonline.com/11111111-0000-0000-0000-000000000001", resource="https://vault.azure.net"`)
	}
	name := strings.ToLower(strings.Trim(strings.TrimPrefix(req.URL.Path, "/secrets"), "/"))
	v.mu.Lock()
	v.asked[name]++
	v.mu.Unlock()
	if name == "" {
		var items []string
		for name := range v.secrets {
			items = append(items, `{"id":"`+shop+`/secrets/`+name+`","attributes":{"enabled":true}}`)
		}
		slices.Sort(items)
		return respond(http.StatusOK, `{"value":[`+strings.Join(items, ",")+`],"nextLink":null}`, "Content-Type", "application/json")
	}
	if name == v.slow {
		<-v.ready
	}
	value, ok := v.secrets[name]
	if !ok {
		return respond(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`, "Content-Type", "application/json")
	}
	return respond(http.StatusOK, `{"value":"`+value+`","id":"`+shop+`/secrets/`+name+`/`+version+`"}`, "Content-Type", "application/json")
}

type givenToken struct{}

func (givenToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// newClient makes a client of a vault. Its clock is the test's.
func newClient(t *testing.T, v *vaultOf, now func() time.Time) *reads.Client {
	t.Helper()
	v.asked = map[string]int{}
	cloud, err := azure.CloudByName("AzurePublicCloud", "", "")
	must(t, err)
	sender := azure.NewSender(nil, nil, klog.Logger{})
	sender.HTTP.Transport = v
	random := func() float64 { return 0 }
	vaults, err := vault.New(vault.Options{
		Cloud: cloud, Sender: sender, Memory: azure.NewMemory(), Now: now, After: time.After, Random: random,
	}, nil)
	must(t, err)
	logins, err := login.New(login.Options{Cloud: cloud, Sender: sender, Metadata: sender, Credential: givenToken{}, Now: now, After: time.After, Random: random}, nil)
	must(t, err)
	values, err := cache.New[*reads.Value](cache.Options{Now: now, After: time.After, Random: random}, nil)
	must(t, err)
	return reads.New(reads.Options{Cloud: cloud, Vaults: vaults, Logins: logins, Cache: values, Now: now, After: time.After, Random: random})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func request(objects ...volume.Object) volume.Request {
	return volume.Request{
		Pod: volume.Pod{Name: "web-1", Namespace: "shop", UID: "u", ServiceAccount: "web"}, Objects: objects, Timeout: time.Minute,
		Identity: volume.Identity{Kind: volume.ServicePrincipal, ClientID: clientID, ClientSecret: volume.NewSecret([]byte("s"))},
	}
}

func secret(source, name string, optional bool) volume.Object {
	return volume.Object{Kind: volume.KindSecret, Source: source, Vault: shop, Name: name, Optional: optional}
}

// taken notes which objects have which value.
type taken struct {
	mu     sync.Mutex
	values map[string]string // by source
	fails  map[string]error  // by source
}

func (n *taken) take(_ context.Context, objects []*volume.Object, v *reads.Value) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range objects {
		if err := n.fails[o.Source]; err != nil {
			return err
		}
		n.values[o.Source] = string(v.Secret.Reveal())
	}
	return nil
}

// Objects with the same request are read once, passwords too. What is absent and optional has no value.
func TestEachRequestOnce(t *testing.T) {
	t.Parallel()
	v := &vaultOf{secrets: map[string]string{"a": "of a", "b": "of b"}}
	c := newClient(t, v, func() time.Time { return began })
	protected := secret("3", "a", false)
	password := secret("3.password", "b", false)
	protected.Password = &password
	r := request(secret("0", "a", true), secret("1", "A", false), secret("2", "gone", true), protected)
	r.Refresh, r.RotationInterval, r.Poll = true, time.Hour, true
	for i := range 2 { // the second time from the cache
		f := c.Begin(r, r.Vaults())
		must(t, f.CheckPolicy(t.Context()))
		objects, err := f.Expand(t.Context())
		must(t, err)
		got := &taken{values: map[string]string{}}
		must(t, f.Run(t.Context(), objects, got.take))
		if diff := cmp.Diff(map[string]string{"0": "of a", "1": "of a", "3": "of a", "3.password": "of b"}, got.values); diff != "" {
			t.Errorf("fetch %d: the values (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "gone": 1}, v.asked); diff != "" {
			t.Errorf("fetch %d: the requests (-want +got):\n%s", i, diff)
		}
	}
}

// The error is of the first object that fails, although the reads run at the same time. An error of take is one as well.
func TestTheFirstErrorOfTheObjects(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{}
	for i := range 30 {
		secrets[fmt.Sprint(i)] = "value"
	}
	delete(secrets, "7")
	refused := volume.Errorf(volume.ErrPrecondition, "take refuses it")
	const absent = `7: secret "7" of https://shop.vault.azure.net as servicePrincipal ` + clientID +
		`: HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted`
	for _, test := range []struct {
		refuses string
		want    string
	}{{"20", absent}, {"3", "take refuses it"}} {
		c := newClient(t, &vaultOf{secrets: secrets}, func() time.Time { return began })
		var objects []volume.Object
		for i := range 30 {
			objects = append(objects, secret(fmt.Sprint(i), fmt.Sprint(i), false))
		}
		r := request(objects...)
		got := &taken{values: map[string]string{}, fails: map[string]error{test.refuses: refused}}
		err := c.Begin(r, r.Vaults()).Run(t.Context(), objects, got.take)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("take refuses %s: %v, want %s", test.refuses, err, test.want)
		}
	}
}

// A selection becomes one optional object for each secret that it matches. More objects than the limits of the volume
// allow are an error.
func TestExpand(t *testing.T) {
	t.Parallel()
	c := newClient(t, &vaultOf{secrets: map[string]string{"app-1": "1", "app-2": "2", "other": "3"}}, func() time.Time { return began })
	selection := volume.Object{Kind: volume.KindSelection, Source: "objects[0]", Vault: shop, Selection: &volume.Selection{
		Prefix: "app-", Each: func(name string) volume.Object { return secret("objects[0]", name, false) },
	}}
	r := request(selection, secret("objects[1]", "last", false))
	objects, err := c.Begin(r, r.Vaults()).Expand(t.Context())
	must(t, err)
	var got []string
	for _, o := range objects {
		got = append(got, fmt.Sprintf("%s %t", o.Name, o.Optional))
	}
	if diff := cmp.Diff([]string{"app-1 true", "app-2 true", "last false"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Objects[0], r.Objects[1], r.Limits.Files = r.Objects[1], r.Objects[0], 2
	const want = "the volume is over the limit of 2 files (--max-volume-files); ask for fewer objects"
	if _, err := c.Begin(r, r.Vaults()).Expand(t.Context()); !errors.Is(err, volume.ErrTooLarge) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// The age of what was read is that of its oldest value. In a refresh, pinned versions have no age.
func TestAges(t *testing.T) {
	t.Parallel()
	now := began
	c := newClient(t, &vaultOf{secrets: map[string]string{"a": "x", "b": "x", "pinned/" + version: "x"}}, func() time.Time { return now })
	pinned := secret("2", "pinned", false)
	pinned.Version = version
	read := func(refresh bool, objects ...volume.Object) reads.Ages {
		t.Helper()
		r := request(objects...)
		r.Refresh, r.RotationInterval, r.Poll = refresh, time.Hour, true
		f := c.Begin(r, r.Vaults())
		must(t, f.Run(t.Context(), objects, (&taken{values: map[string]string{}}).take))
		return f.Ages(t.Context())
	}
	a, b := secret("0", "a", false), secret("1", "b", false)
	read(false, pinned)
	now = began.Add(10 * time.Minute)
	read(false, a)
	now = began.Add(20 * time.Minute)
	for name, test := range map[string]struct {
		objects []volume.Object
		want    reads.Ages
	}{
		"two":            {[]volume.Object{a, b}, reads.Ages{Fetched: began.Add(10 * time.Minute), Read: began.Add(10 * time.Minute), Newest: now}},
		"one is pinned":  {[]volume.Object{pinned, a}, reads.Ages{Fetched: began.Add(10 * time.Minute), Read: began.Add(10 * time.Minute), Newest: began.Add(10 * time.Minute)}},
		"all are pinned": {[]volume.Object{pinned}, reads.Ages{Fetched: now, Read: now, Newest: began}},
		"no objects":     {nil, reads.Ages{Fetched: now, Read: now}},
	} {
		if diff := cmp.Diff(test.want, read(true, test.objects...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A read can go on for others after its first caller has given up. Then it keeps neither the files nor the objects of that caller in
// memory, because these are not counted any more.
func TestAReadForOthersHoldsNothingOfItsFirstCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vaultOf{secrets: map[string]string{"a": "of a", "slow": "of slow"}, slow: "slow", ready: make(chan struct{})}
		c := newClient(t, v, func() time.Time { return began })
		type made [1 << 10]byte
		run := func(ctx context.Context) (files weak.Pointer[made], object weak.Pointer[volume.Object], ended chan error) {
			r, mine := request(secret("0", "a", false), secret("1", "slow", false)), &made{}
			f := c.Begin(r, r.Vaults())
			objects := slices.Clone(r.Objects)
			ended = make(chan error, 1)
			go func() {
				ended <- f.Run(ctx, objects, func(context.Context, []*volume.Object, *reads.Value) error {
					mine[0]++
					return nil
				})
			}()
			synctest.Wait()
			return weak.Make(mine), weak.Make(&objects[0]), ended
		}
		ctx, giveUp := context.WithCancel(t.Context())
		files, object, first := run(ctx)
		_, _, second := run(t.Context())
		giveUp()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller: %v", err)
		}
		synctest.Wait()
		runtime.GC()
		if files.Value() != nil || object.Value() != nil {
			t.Errorf("files of the first caller are in memory: %v; its objects: %v", files.Value() != nil, object.Value() != nil)
		}
		close(v.ready)
		if err := <-second; err != nil || v.asked["slow"] != 1 {
			t.Errorf("the second caller: %v; the object was read %d times, want 1", err, v.asked["slow"])
		}
	})
}
