package driver

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
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

func TestRefusedRegistrationEndsRun(t *testing.T) {
	t.Parallel()
	h := newHarness(t, newFakes(), withRegistration)
	h.start(t)

	refusal := &registerapi.RegistrationStatus{Error: "version\nnot supported"}
	if _, err := h.kubelet(t).NotifyRegistrationStatus(t.Context(), refusal); err != nil {
		t.Errorf("the kubelet's call = %v, want success", err)
	}
	awaitGone(t, h.driver.socket)
	const want = "the kubelet refused to register keyvault-csi.io: version not supported"
	if got := text(h.stop()); got != want {
		t.Errorf("Run = %q, want %q", got, want)
	}
	if !strings.Contains(h.log.String(), want) {
		t.Error("the refusal is not in the log")
	}
	if _, err := os.Stat(h.config.RegistrationSocket); err == nil {
		t.Error("the registration socket is still there")
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
