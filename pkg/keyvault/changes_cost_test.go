package keyvault_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// An object that is absent, as another volume has just found out, does not hide when the others were read.
func TestAbsentObjectsDoNotHideReads(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	absent := secret("absent")
	absent.Optional = true
	r := lists(w.asServicePrincipal(append(w.set(2, "s"), absent)...))
	w.later(time.Hour)
	read := w.now()
	w.fetch(first("one", r))
	w.fetch(first("two", r))
	w.refreshed("one", r)
	content, err := w.client.Fetch(t.Context(), refresh("two", r))
	w.must(err)
	if !content.Read.Equal(read) {
		t.Errorf("read at %v, want %v", content.Read, read)
	}
}

// Pages that no vault of Azure sends take no more memory than the longest list.
func TestAListOfManyNames(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	r := lists(w.asServicePrincipal(w.set(10, "s")...))
	w.settle("volume", r)
	page := strings.Repeat(entry("shop.vault.azure.net", "x", 1)+",", 3000)
	w.inject(devcloud.Fault{
		Service: devcloud.ServiceVault, Kind: "secrets/list", Action: devcloud.Malformed,
		Text: `{"value":[` + strings.TrimSuffix(page, ",") + `],"nextLink":"https://shop.vault.azure.net/secrets?api-version=7.4"}`,
	})
	for _, want := range []cost{{1, 10}, {0, 10}} {
		if files, c := w.refreshed("volume", r); len(files) != 10 || c != want {
			t.Errorf("%d files, %+v, want %+v", len(files), c, want)
		}
	}
}

// The log has one line for each new reason not to list: the right to list is missing, or the list has too many pages.
func TestTheReasonForNoListChanges(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newTimedFixture(t, func(o *keyvault.Options) {
		o.Logger = textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log)))
	})
	r := lists(w.asServicePrincipal(w.set(3, "s")...))
	w.set(56, "other")
	w.settle("volume", r)
	for i, right := range []func(string, ...devcloud.Right){w.vault.Deny, w.vault.Deny, w.vault.Grant, w.vault.Grant, w.vault.Deny} {
		right(clientID, devcloud.SecretsList)
		w.refreshed("volume", r)
		w.later(time.Hour)
		w.refreshed("volume", r)
		refused := strings.Count(log.String(), "the identity may not do secrets/list")
		long := strings.Count(log.String(), "the vault has more pages")
		if refused != 1+i/4 || long != min(1, i/2) {
			t.Fatalf("step %d: %d lines that it is refused, %d that it is too long:\n%s", i, refused, long, &log)
		}
	}
}

// What a selection's own list shows to have changed is read, and not looked for in another list.
func TestASelectionThatHasChanged(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	w.set(40, "app-")
	r := lists(w.asServicePrincipal(selection(volume.Selection{Prefix: "app-"})))
	w.settle("volume", r)
	w.later(10 * time.Second)
	w.vault.SetSecret("app-00007", "new", devcloud.SecretOptions{})
	files, c := w.refreshed("volume", r)
	if want := (cost{2, 1}); c != want || files["app-00007"] != "new" {
		t.Errorf("%+v, want %+v; %q", c, want, files["app-00007"])
	}
}

// A volume with one object does not list a vault because of objects that others do not look for in the list, or less often.
func TestOthersDoNotMakeAListWorthIt(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(*volume.Request){
		"that reads":      func(r *volume.Request) { r.ChangeDetection = volume.DetectByReading },
		"that lists less": func(r *volume.Request) { r.RotationInterval = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTimedFixture(t)
			objects := w.set(100, "s")
			one, all := lists(w.asServicePrincipal(objects[0])), first("other", lists(w.asServicePrincipal(objects[1:]...)))
			other(&all)
			w.later(time.Hour)
			w.fetch(all)
			w.fetch(first("one", one))
			for range 2 {
				if _, c := w.refreshed("one", one); c != (cost{0, 1}) {
					t.Errorf("%+v, want one object", c)
				}
			}
		})
	}
}

// A list that saves less than its pages is tried once in an hour, however long its entries stay in memory.
func TestAListThatSavesNothing(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t, func(o *keyvault.Options) { o.LastKnownGood = 24 * time.Hour })
	r := lists(w.asServicePrincipal(w.set(40, "s")...))
	w.settle("volume", r)
	stop := w.inject(devcloud.Fault{
		Service: devcloud.ServiceVault, Kind: "secrets/list", Action: devcloud.Malformed,
		Text: `{"value":[` + entry("shop.vault.azure.net", "s00000", 1) + `],"nextLink":null}`,
	})
	pages := 0
	for until := w.now().Add(time.Hour); w.now().Before(until); {
		_, c := w.refreshed("volume", r)
		pages += c.Lists
		if c.Gets != 40 {
			t.Fatalf("%+v", c)
		}
	}
	if pages != 1 {
		t.Errorf("%d pages in an hour, want 1", pages)
	}
	stop()
	for until := w.now().Add(time.Hour); w.now().Before(until); {
		if _, c := w.refreshed("volume", r); c == (cost{2, 0}) {
			return
		}
	}
	t.Error("not listed again in an hour")
}

// A read that failed without a refusal leaves the value that it was to replace, and a list that shows it keeps it.
func TestAFailedReadBeforeAList(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	objects := w.set(10, "s")
	listing, reading := lists(w.asServicePrincipal(objects...)), w.asServicePrincipal(objects[0])
	w.settle("listing", listing)
	w.fetch(first("reading", reading))
	w.later(interval + 10*time.Second)
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Kind: "secrets/get", Action: devcloud.Reset})
	if _, err := w.client.Fetch(t.Context(), refresh("reading", reading)); !errors.Is(err, volume.ErrUnavailable) {
		t.Fatal(err)
	}
	w.ResetCounts()
	files := w.fetch(refresh("listing", listing))
	if c := w.cost(); len(files) != 10 || c != (cost{1, 0}) {
		t.Errorf("%d files, %+v", len(files), c)
	}
}
