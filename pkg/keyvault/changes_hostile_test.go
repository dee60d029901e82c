package keyvault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// entry is an entry of a list of secrets as a vault writes it.
func entry(host, name string, updated any) string {
	return fmt.Sprintf(`{"id":"https://%s/secrets/%s","attributes":{"enabled":true,"created":%v,"updated":%v}}`, host, name, updated, updated)
}

// A list that is wrong is no error, and keeps nothing that it does not show: the objects are read. No list takes more pages
// than there are objects to read.
func TestStrangeLists(t *testing.T) {
	t.Parallel()
	const shop = "shop.vault.azure.net"
	for name, test := range map[string]struct {
		page func(created int64) string
		want cost
	}{
		"as it is":                 {func(at int64) string { return entry(shop, "s00000", at) + "," + entry(shop, "s00001", at) }, cost{1, 1}},
		"in capitals, with a port": {func(at int64) string { return entry(strings.ToUpper(shop)+":443", "S00000", at) }, cost{1, 2}},
		"empty":                    {func(int64) string { return "" }, cost{1, 3}},
		"of another time":          {func(at int64) string { return entry(shop, "s00000", at+1) }, cost{1, 3}},
		"of an earlier time":       {func(at int64) string { return entry(shop, "s00000", at-1) }, cost{1, 3}},
		"of another vault":         {func(at int64) string { return entry("bank.vault.azure.net", "s00000", at) }, cost{1, 3}},
		"twice":                    {func(at int64) string { return entry(shop, "s00000", at) + "," + entry(shop, "s00000", at) }, cost{1, 3}},
		"twice, changed":           {func(at int64) string { return entry(shop, "s00000", at+1) + "," + entry(shop, "s00000", at) }, cost{1, 3}},
		"without attributes":       {func(int64) string { return `{"id":"https://shop.vault.azure.net/secrets/s00000"}` }, cost{1, 3}},
		"without times": {func(int64) string {
			return `{"id":"https://shop.vault.azure.net/secrets/s00000","attributes":{"enabled":true}}`
		}, cost{1, 3}},
		"times that are no numbers": {func(int64) string { return entry(shop, "s00000", `"soon"`) }, cost{1, 3}},
		"a huge time":               {func(int64) string { return entry(shop, "s00000", "1e300") }, cost{1, 3}},
		"a certificate": {func(at int64) string {
			return strings.ReplaceAll(entry(shop, "s00000", at), "/secrets/", "/certificates/")
		}, cost{1, 3}},
		"no object": {func(int64) string { return "null" }, cost{1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTimedFixture(t)
			r := lists(w.asServicePrincipal(w.set(3, "s")...))
			created := w.now().Round(time.Second).Unix()
			w.settle("volume", r)
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Kind: "secrets/list", Action: devcloud.Malformed, Text: `{"value":[` + test.page(created) + `],"nextLink":null}`})
			files, c := w.refreshed("volume", r)
			if len(files) != 3 || c != test.want {
				t.Errorf("%d files, %+v, want %+v", len(files), c, test.want)
			}
		})
	}
}

// A list that fails, ends nowhere or does not answer costs its requests and no volume.
func TestListsThatFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault devcloud.Fault
		pages int // that are answered with 200, at most
	}{
		"an endless list": {devcloud.Fault{Action: devcloud.Malformed, Text: `{"value":[],"nextLink":"https://shop.vault.azure.net/secrets?api-version=7.4"}`}, 9},
		"another host":    {devcloud.Fault{Action: devcloud.Malformed, Text: `{"value":[],"nextLink":"https://bank.vault.azure.net/secrets?api-version=7.4"}`}, 1},
		"no JSON":         {devcloud.Fault{Action: devcloud.Malformed, Text: "<html>"}, 1},
		"cut":             {devcloud.Fault{Action: devcloud.Cut, After: 10}, 3},
		"5xx":             {devcloud.Fault{Action: devcloud.Fail, Status: 500}, 0},
		"redirected":      {devcloud.Fault{Action: devcloud.Fail, Status: 302}, 0},
		"absent":          {devcloud.Fault{Action: devcloud.Fail, Status: 404}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTimedFixture(t)
			r := lists(w.asServicePrincipal(w.set(10, "s")...))
			w.settle("volume", r)
			w.run()
			test.fault.Service, test.fault.Kind = devcloud.ServiceVault, "secrets/list"
			w.inject(test.fault)
			files, c := w.refreshed("volume", r)
			if len(files) != 10 || c.Gets != 10 || c.Lists > test.pages {
				t.Errorf("%d files, %+v, want 10 reads and at most %d pages", len(files), c, test.pages)
			}
		})
	}
}

// A list of one identity keeps no value of another, whatever their rights.
func TestListsOfOtherIdentities(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	objects := w.set(10, "s")
	mine, other := lists(w.asServicePrincipal(objects...)), lists(w.asServicePrincipal(objects...))
	other.Identity.ClientID = otherClientID
	w.vault.Deny(otherClientID, devcloud.SecretsList)
	w.settle("mine", mine)
	workload := lists(w.asWorkload(objects...)) // with a token of now
	w.fetch(first("other", other))
	w.fetch(first("workload", workload))
	if _, c := w.refreshed("mine", mine); c != (cost{1, 0}) {
		t.Errorf("mine: %+v", c)
	}
	w.ResetCounts()
	w.fetch(refresh("other", other))
	if c := w.cost(); c != (cost{0, 10}) {
		t.Errorf("the other: %+v", c)
	}
	w.ResetCounts()
	w.fetch(refresh("workload", workload))
	if c := w.cost(); c != (cost{1, 0}) {
		t.Errorf("the same client id with another login: %+v", c)
	}
}

// What has been listed is not fresh for those who did not ask for lists: a volume without the attribute, a first mount, and
// the refreshAfter of a policy, whose reads are real.
func TestListedValuesAreNotRead(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t, maxAge(10*time.Second))
	objects := w.set(10, "s")
	listing, reading := lists(w.asServicePrincipal(objects...)), w.asServicePrincipal(objects...)
	w.later(time.Hour)
	read := w.now()
	w.fetch(first("listing", listing))
	w.fetch(first("reading", reading))
	w.later(interval + 10*time.Second)
	listed := w.now()
	content, err := w.client.Fetch(t.Context(), refresh("listing", listing))
	w.must(err)
	if !content.Fetched.Equal(listed) || !content.Read.Equal(read) {
		t.Errorf("current at %v, read at %v, want %v and %v", content.Fetched, content.Read, listed, read)
	}
	for _, step := range []struct {
		name    string
		request volume.Request
		want    cost
	}{
		{"a first mount", first("new", listing), cost{0, 10}},
		{"a volume that lists, again", refresh("listing", listing), cost{0, 0}},
		{"a volume that reads", refresh("reading", reading), cost{0, 0}},
	} {
		w.later(time.Second)
		w.ResetCounts()
		w.fetch(step.request)
		if got := w.cost(); got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
	w.refreshed("listing", listing)
	w.ResetCounts()
	w.fetch(refresh("reading", reading))
	if got, want := w.cost(), (cost{0, 10}); got != want {
		t.Errorf("a volume that reads, after a list: %+v, want %+v", got, want)
	}

	w.refreshed("listing", listing)
	leaked := refresh("listing", listing)
	leaked.NotBefore = w.now()
	w.later(time.Second)
	w.ResetCounts()
	content, err = w.client.Fetch(t.Context(), leaked)
	w.must(err)
	if got, want := w.cost(), (cost{0, 10}); got != want || content.Read.Before(leaked.NotBefore) {
		t.Errorf("after a leak: %+v, want %+v; read at %v", got, want, content.Read)
	}
}

// A selection's own list is enough. What a volume pins is not read, as without lists; keys and versions are read.
func TestListsAndOtherObjects(t *testing.T) {
	t.Parallel()
	key := only(allParts("sign"), volume.PartPublicKey)
	key.Kind = volume.KindKey
	pinned := secret("app-00001")
	pinned.Version, pinned.Outputs[0].Path = oldVersion, "pinned"
	for name, test := range map[string]struct {
		objects []volume.Object
		want    cost
		keys    int
	}{
		"all":                     {[]volume.Object{selection(volume.Selection{})}, cost{4, 0}, 0},
		"a prefix":                {[]volume.Object{selection(volume.Selection{Prefix: "app-"})}, cost{4, 0}, 0},
		"a prefix, and others":    {[]volume.Object{selection(volume.Selection{Prefix: "app-"}), secret("z-other-00001")}, cost{8, 0}, 0},
		"pinned":                  {[]volume.Object{pinned}, cost{}, 0},
		"a key, and five secrets": {append(secrets("app-0000", 5), key), cost{4, 0}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTimedFixture(t)
			w.set(40, "app-")
			w.set(40, "z-other-")
			w.vault.SetSecret(pinned.Name, "v", devcloud.SecretOptions{Version: oldVersion})
			_, err := w.vault.SetKey("sign", devcloud.KeyOptions{})
			w.must(err)
			r := lists(w.asServicePrincipal(test.objects...))
			w.settle("volume", r)
			files, c := w.refreshed("volume", r)
			if c != test.want || w.Count(devcloud.CountKey{Kind: "keys/get", Status: 200}) != test.keys || len(files) == 0 {
				t.Errorf("%d files, %+v, want %+v", len(files), c, test.want)
			}
		})
	}
}

func secrets(prefix string, n int) (objects []volume.Object) {
	for i := range n {
		objects = append(objects, secret(fmt.Sprint(prefix, i)))
	}
	return objects
}

// A list and the reads wait for a vault that throttles, like reads alone.
func TestAThrottledListOfChanges(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	r := lists(w.asServicePrincipal(w.set(60, "s")...))
	w.settle("volume", r)
	w.run()
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Kind: "secrets/list", Action: devcloud.Throttle, RetryAfter: time.Second, Times: 1})
	files, c := w.refreshed("volume", r)
	if len(files) != 60 || c != (cost{3, 0}) {
		t.Errorf("%d files, %+v, want 60 of 3 pages", len(files), c)
	}
}

// A list that does not answer delays a refresh by the timeout of one request, and the objects are read.
func TestAListThatHangs(t *testing.T) {
	t.Parallel()
	ends := make(chan time.Time)
	w := newTimedFixture(t, patience(ends))
	r := lists(w.asServicePrincipal(w.set(10, "s")...))
	w.settle("volume", r)
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Kind: "secrets/list", Action: devcloud.Hang})
	go func() {
		_ = w.Wait(t.Context(), devcloud.CountKey{Kind: "secrets/list"}, 1)
		close(ends)
	}()
	if files, c := w.refreshed("volume", r); len(files) != 10 || c != (cost{0, 10}) {
		t.Errorf("%d files, %+v", len(files), c)
	}
}

// An identity that may list and no longer get is told at the next full read, or as soon as a new volume of it is refused. The
// error is that of reading. While the vault cannot be reached, a new volume gets what lists have shown, and not longer.
func TestListsWithoutTheRightToGet(t *testing.T) {
	t.Parallel()
	const goodFor = time.Hour
	w := newTimedFixture(t, func(o *keyvault.Options) { o.LastKnownGood = goodFor })
	r := lists(w.asServicePrincipal(w.set(10, "s")...))
	w.settle("volume", r)
	w.vault.Deny(clientID, devcloud.SecretsGet)
	for range 60 { // two hours
		if files, c := w.refreshed("volume", r); len(files) != 10 || c != (cost{1, 0}) {
			t.Fatalf("%d files, %+v", len(files), c)
		}
	}
	reading := r
	reading.ChangeDetection = volume.DetectByReading
	down := w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	if files := w.fetch(first("in an outage", r)); len(files) != 10 {
		t.Errorf("%d files in an outage", len(files))
	}
	down()
	w.later(time.Minute)
	_, want := w.client.Fetch(t.Context(), first("new", reading))
	if !errors.Is(want, volume.ErrDenied) {
		t.Fatalf("a new volume: %v", want)
	}
	w.later(interval + 10*time.Second)
	if _, err := w.client.Fetch(t.Context(), refresh("volume", r)); errorText(err) != errorText(want) {
		t.Errorf("%v, want %v", err, want)
	}
}
