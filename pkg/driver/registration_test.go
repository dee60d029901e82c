package driver

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func withRegistration(c *Config) {
	c.HTTPAddress = "127.0.0.1:0"
	c.RegistrationSocket = filepath.Join(filepath.Dir(c.KubeletRoot), "reg", c.Name+"-reg.sock")
}

// kubelet waits for the registration socket, as the kubelet's plugin watcher does, and connects to it. The file is
// there an instant before connections are accepted, so calls wait for the connection; the kubelet tries again too.
func (h *harness) kubelet(t *testing.T) registerapi.RegistrationClient {
	t.Helper()
	await(t, "the registration socket", func() bool {
		_, err := os.Stat(h.config.RegistrationSocket)
		return err == nil
	})
	return registerapi.NewRegistrationClient(dial(t, h.config.RegistrationSocket, grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		announce string // Config.KubeletCSISocket, below the kubelet's root
		want     string
	}{
		"default path": {"", "plugins/keyvault-csi.io/csi.sock"},
		"given path":   {"other/csi.sock", "other/csi.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startDriver(t, newFakes(), withRegistration, func(c *Config) {
				if tc.announce != "" {
					c.KubeletCSISocket = filepath.Join(c.KubeletRoot, tc.announce)
				}
			})
			kubelet := h.kubelet(t)
			if info, err := os.Stat(h.config.RegistrationSocket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("the registration socket is %v, %v, want Srw-------", info.Mode(), err)
			}

			got, err := kubelet.GetInfo(t.Context(), &registerapi.InfoRequest{})
			if err != nil {
				t.Fatal(err)
			}
			want := &registerapi.PluginInfo{
				Type: "CSIPlugin", Name: "keyvault-csi.io",
				Endpoint:          filepath.Join(h.config.KubeletRoot, tc.want),
				SupportedVersions: []string{"1.0.0"},
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("GetInfo (-want +got):\n%s", diff)
			}

			// Alive from the start, ready when pods can have volumes.
			get(t, h.http+"/healthz", http.StatusOK)
			const unregistered = "the kubelet has not registered the driver yet\n"
			if got := get(t, h.http+"/readyz", http.StatusServiceUnavailable); got != unregistered {
				t.Errorf("/readyz = %q, want %q", got, unregistered)
			}
			for range 2 { // a kubelet that starts anew registers again
				if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &registerapi.RegistrationStatus{PluginRegistered: true}); err != nil {
					t.Fatal(err)
				}
				get(t, h.http+"/readyz", http.StatusOK)
			}

			if err := h.stop(); err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
			if _, err := os.Stat(h.config.RegistrationSocket); err == nil {
				t.Error("after Run the registration socket is still there")
			}
		})
	}
}

// offers watches the registration socket, and plays the clock that the driver waits by before it makes it anew.
type offers struct {
	h      *harness
	pauses chan time.Duration
	over   chan time.Time
}

func newOffers(h *harness) *offers {
	o := &offers{h: h, pauses: make(chan time.Duration, 1), over: make(chan time.Time)}
	h.after = func(d time.Duration) <-chan time.Time {
		o.pauses <- d
		return o.over
	}
	return o
}

// tell is what the kubelet says of the registration at the socket that is there now; an empty reason means that it has worked.
func (o *offers) tell(t *testing.T, reason string) {
	t.Helper()
	status := &registerapi.RegistrationStatus{PluginRegistered: reason == "", Error: reason}
	if _, err := o.h.kubelet(t).NotifyRegistrationStatus(t.Context(), status); err != nil {
		t.Errorf("the kubelet's call = %v, want success", err)
	}
}

// wait asserts how long the driver waits before it makes the socket anew.
func (o *offers) wait(t *testing.T, want time.Duration) {
	t.Helper()
	select {
	case got := <-o.pauses:
		if got != want {
			t.Errorf("the driver waits for %v, want %v", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the driver does not wait for anything")
	}
}

// anew lets the pause be over, and waits until another socket is there: the kubelet looks again only when one is made. A link keeps
// the old one from giving its inode to the new one.
func (o *offers) anew(t *testing.T) {
	t.Helper()
	socket, old := o.h.config.RegistrationSocket, filepath.Join(t.TempDir(), "old")
	if err := os.Link(socket, old); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	o.over <- time.Time{}
	await(t, "a new registration socket", func() bool {
		now, err := os.Stat(socket)
		return err == nil && !os.SameFile(before, now)
	})
}

// A refusal ends nothing but the readiness. The driver offers itself again, later and later, until the kubelet accepts it.
func TestRefusedRegistrationIsOfferedAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes(), withRegistration)
	o := newOffers(h)
	h.start(t)

	const refused = "the kubelet refused to register keyvault-csi.io: version not supported"
	for i, seconds := range []int{5, 10, 20, 40, 80, 120, 120} {
		o.tell(t, "version\nnot supported")
		o.wait(t, time.Duration(seconds)*time.Second)
		o.tell(t, "version\nnot supported") // the kubelet has looked again by itself, which makes the pause no longer
		if got := get(t, h.http+"/readyz", http.StatusServiceUnavailable); got != refused+"\n" {
			t.Errorf("refusal %d: /readyz = %q, want %q", i, got, refused)
		}
		get(t, h.http+"/healthz", http.StatusOK)
		wantStatus(t, h.publish(t), codes.OK, "")
		if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
			t.Error(err)
		}
		o.anew(t)
	}
	if n := strings.Count(h.log.String(), refused); n != 1 {
		t.Errorf("the refusal is in the log %d times, want once", n)
	}
	o.tell(t, "another reason")
	o.wait(t, 120*time.Second)
	if !strings.Contains(h.log.String(), "keyvault-csi.io: another reason") {
		t.Error("another reason is not in the log")
	}

	o.tell(t, "")
	get(t, h.http+"/readyz", http.StatusOK)
	o.tell(t, "version not supported") // by a kubelet that has started anew
	o.wait(t, 5*time.Second)
	get(t, h.http+"/readyz", http.StatusServiceUnavailable)
	if n := strings.Count(h.log.String(), refused); n != 2 {
		t.Errorf("after a registration that has worked the refusal is in the log %d times, want twice", n)
	}
	want := "# HELP keyvault_csi_registration_refusals_total Refusals of the kubelet to register the driver.\n" +
		"# TYPE keyvault_csi_registration_refusals_total counter\nkeyvault_csi_registration_refusals_total 16\n"
	if err := testutil.GatherAndCompare(h.config.Registry, strings.NewReader(want), "keyvault_csi_registration_refusals_total"); err != nil {
		t.Error(err)
	}
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if _, err := os.Stat(h.config.RegistrationSocket); err == nil {
		t.Error("after Run the registration socket is still there")
	}
}

// The kubelet accepts the driver by itself just when the pause ends. A new socket would have it take the driver away first.
func TestRegisteredWhenThePauseEnds(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes(), withRegistration)
	o := newOffers(h)
	h.start(t)
	o.tell(t, "version not supported")
	o.wait(t, 5*time.Second)
	h.driver.registration.Store(&registration{}) // and nothing in the channel that tells of it yet
	o.over <- time.Time{}
	o.tell(t, "version not supported")
	o.wait(t, 5*time.Second) // as after the first refusal
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// Whoever cannot offer itself to the kubelet is of no use and says so.
func TestRegistrationSocketFails(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes())
	h.config.RegistrationSocket = filepath.Join(h.dir, "file")
	if err := os.WriteFile(h.config.RegistrationSocket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := New(h.config)
	if err != nil {
		t.Fatal(err)
	}
	want := h.config.RegistrationSocket + " is there and no socket; it has to be removed before the driver can listen there"
	if got := text(d.Run(silent(t))); got != want {
		t.Errorf("Run = %q, want %q", got, want)
	}
}

// The kubelet calls as soon as it sees the registration socket, so without a CSI socket that answers there is none.
func TestNoRegistrationBeforeCSIAnswers(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes(), withRegistration)
	d, err := New(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(d.register(silent(t))); !strings.HasPrefix(got, "probing "+d.socket+": ") {
		t.Errorf("register = %q, want the failed probe", got)
	}
	if _, err := os.Stat(h.config.RegistrationSocket); err == nil {
		t.Error("the registration socket is there")
	}
}
