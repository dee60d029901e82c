package driver

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// volumesPage is what /volumes answers, as a reader sees it.
type volumesPage struct {
	Driver, Node, Version string
	Now                   time.Time
	LeftOut               int
	Volumes               []listedVolume
}

func (h *harness) volumes(t *testing.T) volumesPage {
	t.Helper()
	var page volumesPage
	if err := json.Unmarshal([]byte(get(t, h.http+"/volumes", http.StatusOK)), &page); err != nil {
		t.Fatal(err)
	}
	return page
}

// Each volume has its age, its health, and the expiry times of its certificates, from its first publish to its removal.
func TestVolumesAreListed(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	ends := f.clock().Add(240 * time.Hour)
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
		return volume.Content{Fetched: f.clock(), Expiries: []volume.Expiry{{File: "tls/web.crt", NotAfter: ends}}}, nil
	}
	page := func(volumes ...listedVolume) volumesPage {
		return volumesPage{"keyvault-csi.io", "node-1", "v1.2.3", f.clock(), 0, append([]listedVolume{}, volumes...)}
	}
	check := func(step string, want volumesPage) {
		t.Helper()
		if diff := cmp.Diff(want, h.volumes(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step, diff)
		}
	}
	check("nothing", page())

	first := f.clock()
	wantStatus(t, h.publish(t), codes.OK, "")
	listed := listedVolume{
		ID: "csi-1", Pod: listedPod{"payments", "api-0", "uid-1"}, Fetched: &first, Certificates: []listedExpiry{{"tls/web.crt", ends}},
	}
	check("published", page(listed))

	f.fetch = failing(volume.ErrUnavailable, "vault\nis down")
	f.step(3 * time.Minute)
	wantStatus(t, h.publish(t), codes.OK, "")
	listed.Reason, listed.Message = "RefreshFailed", "vault is down"
	check("not refreshed", page(listed))
	f.step(3 * time.Minute)
	wantStatus(t, h.publish(t), codes.Unavailable, "vault is down")
	listed.Reason = "Stale"
	check("stale", page(listed))

	// What a restart forgets, and what the next call of the kubelet brings back.
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h = newHarness(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	h.start(t)
	t.Cleanup(func() { _ = h.stop() })
	check("restarted", page())
	young := f.clock()
	f.sets[h.target()] = young
	wantStatus(t, h.publish(t), codes.OK, "")
	check("seen again", page(listedVolume{ID: "csi-1", Pod: listed.Pod, Fetched: &young}))
	f.fetch = nil
	f.step(3 * time.Minute)
	again := f.clock()
	wantStatus(t, h.publish(t), codes.OK, "")
	check("refreshed", page(listedVolume{ID: "csi-1", Pod: listed.Pod, Fetched: &again, Certificates: []listedExpiry{}}))

	if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
		t.Fatal(err)
	}
	check("removed", page())
}

// A set that was too old already when the driver started is stale until its refresh succeeds, also while the vault is asked.
func TestOldVolumeAfterARestart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		interval string
		reason   string
	}{{"2m", "Stale"}, {"0", ""}} { // never due: its age is no failure
		f := newFakes()
		h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
		f.sets[h.target()] = f.clock().Add(-72 * time.Hour)
		asked := ""
		f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
			asked = h.volumes(t).reasons()
			return volume.Content{Fetched: f.clock()}, nil
		}
		request := h.request()
		request.VolumeContext["rotationInterval"] = tc.interval
		if _, err := h.node.NodePublishVolume(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		if asked != tc.reason {
			t.Errorf("interval %s: while the vault is asked the reason is %q, want %q", tc.interval, asked, tc.reason)
		}
		if got := h.volumes(t).reasons(); got != "" {
			t.Errorf("interval %s: then the reason is %q", tc.interval, got)
		}
	}
}

// A volume that somebody has unmounted, and that cannot be mounted again, is not listed as a healthy one.
func TestVolumeThatIsGone(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	wantStatus(t, h.publish(t), codes.OK, "")
	delete(f.sets, h.target())
	f.fetch = failing(volume.ErrUnavailable, "vault is down")
	wantStatus(t, h.publish(t), codes.Unavailable, "vault is down")
	if got := h.volumes(t).Volumes; len(got) != 0 {
		t.Errorf("the volumes are %+v, want none", got)
	}
	if got := h.driver.node.countBefore() + h.driver.node.countVolumes(false); got != 0 {
		t.Errorf("%d volumes are counted", got)
	}
}

func (p volumesPage) reasons() string {
	var all []string
	for _, v := range p.Volumes {
		all = append(all, v.Reason)
	}
	return strings.Join(all, " ")
}

// A refresh that turns out not to be due keeps the ends of the certificates.
func TestVolumesKeepTheirExpiries(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
		return volume.Content{Fetched: f.clock(), Expiries: []volume.Expiry{{File: "a", NotAfter: f.clock()}}}, nil
	}
	wantStatus(t, h.publish(t), codes.OK, "")
	f.after = func(r volume.Request, now time.Time) time.Time { // a rule about the pod that is not about its vault
		if len(r.Objects) == 0 {
			return now
		}
		return time.Time{}
	}
	f.step(time.Minute)
	wantStatus(t, h.publish(t), codes.OK, "")
	if got := h.volumes(t).Volumes; len(got) != 1 || len(got[0].Certificates) != 1 {
		t.Errorf("the volumes are %+v, want one with one certificate", got)
	}
}

// Only who connects from the network namespace of the driver, to a name of its loopback interface, sees the volumes.
func TestVolumesAreForForwardedPortsOnly(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	handler := h.driver.httpServer().Handler
	for _, tc := range []struct {
		peer, host string
		allowed    bool
	}{
		{"127.0.0.1:4711", "127.0.0.1:9808", true},
		{"127.8.9.1:4711", "localhost:1", true},
		{"[::1]:4711", "[::1]:9808", true},
		{"[::1]:4711", "[::1]", true},
		{"[::ffff:127.0.0.1]:4711", "LOCALHOST", true},
		{"10.0.0.7:4711", "127.0.0.1:9808", false},
		{"10.0.0.7:4711", "localhost", false},
		{"[fe80::1%eth0]:4711", "localhost", false},
		{"[::ffff:10.0.0.7]:4711", "localhost", false},
		{"[::]:4711", "localhost", false},
		{"@", "localhost", false},
		{"", "localhost", false},
		{"127.0.0.1:4711", "evil.example.com:9808", false},
		{"127.0.0.1:4711", "localhost.evil.example.com", false},
		{"127.0.0.1:4711", "127.0.0.1.evil.example.com", false},
		{"127.0.0.1:4711", "10.0.0.7:9808", false},
		{"127.0.0.1:4711", "", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/volumes", http.NoBody)
		r.RemoteAddr, r.Host = tc.peer, tc.host
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Result().Body)
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s to %s may be stored", tc.peer, tc.host)
		}
		switch allowed := w.Code == http.StatusOK && strings.Contains(string(body), "api-0"); {
		case allowed != tc.allowed:
			t.Errorf("%s to %q: %d %s", tc.peer, tc.host, w.Code, body)
		case !allowed && (w.Code != http.StatusForbidden || string(body) != onlyForwarded+"\n"):
			t.Errorf("%s to %q: %d %q, want 403", tc.peer, tc.host, w.Code, body)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://localhost/volumes", http.NoBody))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}

// The answer is bounded, and says what it leaves out.
func TestVolumesAreBounded(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes(), func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	for i := range maxListed + 7 {
		h.driver.node.volumes.Store(strings.Repeat("x", i%7)+time.Duration(i).String(), volumeHealth{})
	}
	if page := h.volumes(t); page.LeftOut != 7 || len(page.Volumes) != maxListed {
		t.Errorf("%d volumes, %d left out; want %d and 7", len(page.Volumes), page.LeftOut, maxListed)
	}
}
