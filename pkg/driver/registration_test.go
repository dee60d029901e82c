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

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
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
			for range 2 { // a kubelet that restarts registers again
				if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &registerapi.RegistrationStatus{PluginRegistered: true}); err != nil {
					t.Fatal(err)
				}
				get(t, h.http+"/readyz", http.StatusOK)
			}

			if err := os.Remove(h.config.RegistrationSocket); err != nil {
				t.Fatal(err)
			}
			removed := "the registration socket was removed: lstat " + h.config.RegistrationSocket + ": no such file or directory\n"
			for _, path := range []string{"/healthz", "/readyz"} {
				if got := get(t, h.http+path, http.StatusServiceUnavailable); got != removed {
					t.Errorf("without the registration socket %s = %q, want %q", path, got, removed)
				}
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

// fakeKubelet watches the registration socket, and controls the clock by which the driver makes a new one.
type fakeKubelet struct {
	h      *harness
	pauses chan time.Duration
	over   chan time.Time
}

func newFakeKubelet(h *harness) *fakeKubelet {
	k := &fakeKubelet{h: h, pauses: make(chan time.Duration, 1), over: make(chan time.Time)}
	h.after = func(d time.Duration) <-chan time.Time {
		k.pauses <- d
		return k.over
	}
	return k
}

// notify reports the result of the registration at the current socket. An empty reason means success.
func (k *fakeKubelet) notify(t *testing.T, reason string) {
	t.Helper()
	status := &registerapi.RegistrationStatus{PluginRegistered: reason == "", Error: reason}
	if _, err := k.h.kubelet(t).NotifyRegistrationStatus(t.Context(), status); err != nil {
		t.Errorf("the kubelet's call = %v, want success", err)
	}
}

// wantPause checks how long the driver waits before it makes a new socket.
func (k *fakeKubelet) wantPause(t *testing.T, want time.Duration) {
	t.Helper()
	select {
	case got := <-k.pauses:
		if got != want {
			t.Errorf("the driver waits for %v, want %v", got, want)
		}
	case <-time.After(suite.Patience):
		t.Fatal("the driver does not wait for anything")
	}
}

// endPause ends the pause, and waits until there is a new socket. A link keeps the inode of the old one in use.
func (k *fakeKubelet) endPause(t *testing.T) {
	t.Helper()
	socket, old := k.h.config.RegistrationSocket, filepath.Join(t.TempDir(), "old")
	if err := os.Link(socket, old); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	k.over <- time.Time{}
	await(t, "a new registration socket", func() bool {
		now, err := os.Stat(socket)
		return err == nil && !os.SameFile(before, now)
	})
}

// After a refusal the driver is not ready. It offers itself again, with growing pauses, until the kubelet accepts it.
func TestRefusedRegistrationIsOfferedAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes(), withRegistration)
	k := newFakeKubelet(h)
	h.start(t)

	const refused = "the kubelet refused to register keyvault-csi.io: version not supported"
	for i, seconds := range []int{5, 10, 20, 40, 80, 120, 120} {
		k.notify(t, "version\nnot supported")
		k.wantPause(t, time.Duration(seconds)*time.Second)
		k.notify(t, "version\nnot supported") // the kubelet has tried again itself, which does not change the pause
		if got := get(t, h.http+"/readyz", http.StatusServiceUnavailable); got != refused+"\n" {
			t.Errorf("refusal %d: /readyz = %q, want %q", i, got, refused)
		}
		get(t, h.http+"/healthz", http.StatusOK)
		wantStatus(t, h.publish(t), codes.OK, "")
		if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
			t.Error(err)
		}
		k.endPause(t)
	}
	if n := strings.Count(h.log.String(), refused); n != 1 {
		t.Errorf("the refusal is in the log %d times, want once", n)
	}
	k.notify(t, "another reason")
	k.wantPause(t, 120*time.Second)
	if !strings.Contains(h.log.String(), "keyvault-csi.io: another reason") {
		t.Error("another reason is not in the log")
	}

	k.notify(t, "")
	get(t, h.http+"/readyz", http.StatusOK)
	k.notify(t, "version not supported") // by a kubelet that has restarted
	k.wantPause(t, 5*time.Second)
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

// The kubelet accepts the driver by itself just when the pause ends. With a new socket the kubelet would first remove the
// driver.
func TestRegisteredWhenThePauseEnds(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes(), withRegistration)
	k := newFakeKubelet(h)
	h.start(t)
	k.notify(t, "version not supported")
	k.wantPause(t, 5*time.Second)
	h.driver.registration.Store(new(string)) // and no signal yet
	k.over <- time.Time{}
	k.notify(t, "version not supported")
	k.wantPause(t, 5*time.Second) // as after the first refusal
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// A driver that cannot offer itself to the kubelet ends.
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
