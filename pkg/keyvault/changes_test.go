package keyvault_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fullRead is the longest time for which a value is not read.
const fullRead = 6 * time.Hour

// lists is a request whose refreshes list first.
func lists(r volume.Request) volume.Request {
	r.ChangeDetection = volume.DetectByListing
	return r
}

// cost is the number of requests that the vaults have answered with pages of lists and with objects.
type cost struct{ Lists, Gets int }

func (w *fixture) cost() (c cost) {
	for _, api := range []string{"secrets", "certificates"} {
		c.Lists += w.Count(devcloud.CountKey{Kind: api + "/list", Status: 200})
		c.Gets += w.Count(devcloud.CountKey{Kind: api + "/get", Status: 200})
	}
	return c
}

// refreshed passes an interval and the random delay after it, refreshes, and returns the files and what it has cost.
func (w *fixture) refreshed(id string, r volume.Request) (map[string]string, cost) {
	w.t.Helper()
	w.later(interval + 10*time.Second)
	w.ResetCounts()
	return w.fetch(refresh(id, r)), w.cost()
}

// settle fetches a new volume of objects, whose last change is past.
func (w *fixture) settle(id string, r volume.Request) {
	w.t.Helper()
	w.later(time.Hour)
	w.fetch(first(id, r))
}

func (w *fixture) set(n int, prefix string) (objects []volume.Object) {
	for i := range n {
		object := secret(fmt.Sprintf("%s%05d", prefix, i))
		w.vault.SetSecret(object.Name, "value of "+object.Name, devcloud.SecretOptions{})
		objects = append(objects, object)
	}
	return objects
}

// A hundred objects that do not change cost as many requests as the list has pages. The dev cloud's first page and its fifth
// are shorter than 25, as recorded, so that there are five.
func TestUnchangedObjectsCostAList(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	r := w.asServicePrincipal(w.set(100, "s")...)
	requests := map[volume.ChangeDetection]int{}
	for _, detection := range []volume.ChangeDetection{volume.DetectByReading, volume.DetectByListing} {
		r.ChangeDetection = detection
		id := string(detection)
		w.settle(id, r)
		for range 3 {
			files, c := w.refreshed(id, r)
			if len(files) != 100 {
				t.Fatalf("%d files", len(files))
			}
			requests[detection] = c.Lists + c.Gets
			if want := (cost{5, 0}); detection == volume.DetectByListing && c != want {
				t.Errorf("%+v, want %+v", c, want)
			}
		}
	}
	ratio := requests[volume.DetectByReading] / requests[volume.DetectByListing]
	t.Logf("a refresh of 100 unchanged objects: %d requests by reading, %d by listing: %d times fewer",
		requests[volume.DetectByReading], requests[volume.DetectByListing], ratio)
	if ratio < 20 {
		t.Errorf("%d times fewer, want 20", ratio)
	}
}

// However many volumes an identity has, they share the list, also if their objects differ.
func TestVolumesShareTheList(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	all := w.set(100, "s")
	var volumes []volume.Request
	w.later(time.Hour)
	for i := range 50 {
		volumes = append(volumes, lists(w.asServicePrincipal(all[2*i:2*i+2]...)))
		w.fetch(first(fmt.Sprint(i), volumes[i]))
	}
	for range 2 {
		w.later(interval + 10*time.Second)
		w.ResetCounts()
		for i, r := range volumes {
			w.fetch(refresh(fmt.Sprint(i), r))
		}
		if got, want := w.cost(), (cost{5, 0}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// Without the right to list, all is read, and the log says once what is missing. An hour later it is tried again.
func TestForbiddenLists(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	w := newTimedFixture(t, func(o *keyvault.Options) {
		o.Metrics, o.Logger = registry, textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log)))
	})
	r := lists(w.asServicePrincipal(w.set(10, "s")...))
	w.vault.Deny(clientID, devcloud.SecretsList)
	w.settle("volume", r)
	refused := 0
	for range 40 {
		files, c := w.refreshed("volume", r)
		refused += w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 403})
		if want := (cost{0, 10}); len(files) != 10 || c != want {
			t.Fatalf("%d files, %+v, want %+v", len(files), c, want)
		}
	}
	if refused != 2 {
		t.Errorf("the list was tried %d times in 80 minutes, want 2", refused)
	}
	const want = "the list of secrets of https://shop.vault.azure.net as servicePrincipal " + clientID + ": HTTP 403 Forbidden, ForbiddenByPolicy: " +
		`the identity may not do secrets/list; add it to the vault's access policy, or assign the role \"Key Vault Secrets User\"`
	if n := strings.Count(log.String(), want); n != 1 {
		t.Errorf("%d lines of the log, want 1 with\n%s\ngot\n%s", n, want, &log)
	}
	if strings.Contains(log.String(), "s0000") || strings.Contains(log.String(), "value of") {
		t.Errorf("the log has names or values: %s", &log)
	}
	if !slices.Contains(scrape(t, registry), `vault_requests_total{code="403",kind="list",vault="https://shop.vault.azure.net"} 2`) {
		t.Errorf("the metrics do not show it: %v", scrape(t, registry))
	}
	w.vault.Grant(clientID)
	var c cost
	for range 30 {
		if _, c = w.refreshed("volume", r); c.Lists > 0 {
			break
		}
	}
	if c != (cost{1, 0}) {
		t.Errorf("with the right, within an hour: %+v", c)
	}
	if !slices.Contains(scrape(t, registry), `cache_requests_total{result="unchanged"} 10`) {
		t.Errorf("the metrics do not show what was saved: %v", scrape(t, registry))
	}
}

// patience replaces the time that a refresh waits for a list: it ends with ends, and never if that is nil. A busy machine needs
// longer than azure.TryTimeout for a hundred pages.
func patience(ends <-chan time.Time) func(*keyvault.Options) {
	return func(o *keyvault.Options) {
		o.After = func(d time.Duration) <-chan time.Time {
			if d == azure.TryTimeout {
				return ends
			}
			return time.After(d)
		}
	}
}

// A list that costs more than it saves is not read to its end, and not again for an hour.
func TestALargeVault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		others, wanted int
		first, next    cost // of a refresh
	}{
		"as many pages as objects":    {56, 3, cost{2, 3}, cost{0, 3}}, // 24, 25 and 10 of 59
		"a page less":                 {56, 4, cost{3, 0}, cost{3, 0}},
		"one object":                  {0, 1, cost{0, 1}, cost{0, 1}},
		"two objects":                 {22, 2, cost{1, 0}, cost{1, 0}},
		"10,000 others":               {10_000, 20, cost{19, 20}, cost{0, 20}},
		"more than it lists at most":  {2_600, 150, cost{100, 150}, cost{0, 150}},
		"a large one, most of wanted": {100, 400, cost{21, 0}, cost{21, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTimedFixture(t)
			objects := w.set(test.wanted, "wanted")
			w.set(test.others, "other")
			r := lists(w.asServicePrincipal(objects...))
			w.settle("volume", r)
			if _, c := w.refreshed("volume", r); c != test.first {
				t.Errorf("at first %+v, want %+v", c, test.first)
			}
			for range 2 {
				if _, c := w.refreshed("volume", r); c != test.next {
					t.Errorf("then %+v, want %+v", c, test.next)
				}
			}
			if test.first == test.next {
				return
			}
			for until := w.now().Add(time.Hour - 3*interval); w.now().Before(until); {
				w.refreshed("volume", r)
			}
			if _, c := w.refreshed("volume", r); c != test.first {
				t.Errorf("after an hour %+v, want %+v", c, test.first)
			}
		})
	}
}

// Each value is read again at least every six hours, at a time of its own.
func TestFullReads(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	r := lists(w.asServicePrincipal(w.set(20, "s")...))
	w.settle("volume", r)
	begin := w.now()
	read := map[string]time.Duration{}
	busiest := 0
	for w.now().Before(begin.Add(fullRead)) {
		_, c := w.refreshed("volume", r)
		busiest = max(busiest, c.Gets)
		for _, request := range w.Requests() {
			if request.Kind == "secrets/get" && request.Status == 200 {
				if _, again := read[request.Path]; !again {
					read[request.Path] = w.now().Sub(begin)
				}
			}
		}
	}
	if len(read) != 20 {
		t.Errorf("%d of 20 objects were read in six hours", len(read))
	}
	if earliest := slices.Min(slices.Collect(maps.Values(read))); earliest < fullRead*3/4 || busiest == 20 {
		t.Errorf("the first after %v, up to %d at once", earliest, busiest)
	}
}
