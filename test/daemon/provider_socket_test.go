package daemon_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// Whoever can connect reads the secrets of every pod. The socket of a killed daemon is replaced, that of another running provider is not.
func TestProviderSocket(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true, Restrict: func() error {
		unix.Umask(0)
		return nil
	}})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	class := node.Class("web", "objects", objects("a"))
	wantFiles(t, n, class, "a 0644 value")
	if info, err := os.Lstat(n.ProviderSocket()); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v, want Srw-------", info, err)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body, err := n.Get(t.Context(), path); err != nil || code != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: %d %s %v", path, code, body, err)
		}
	}

	other := filepath.Join(n.Dir, "other.sock")
	second := exec.CommandContext(t.Context(), n.Binary(), "--endpoint=unix://"+other, "--provider-socket="+n.ProviderSocket(),
		"--node-id=other", "--http-address=", "--kubelet-root="+n.Root)
	out, err := second.CombinedOutput()
	want := "keyvault-csi-driver: another process listens on " + n.ProviderSocket() + "; only one driver can\n"
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.HasSuffix(string(out), want) {
		t.Errorf("a second daemon ended with %v: %s\nwant %s", err, out, want)
	}
	if _, err := os.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the second daemon has left its CSI socket: %v", err)
	}
	wantFiles(t, n, class, "a 0644 value")

	if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatalf("on a stale socket: %v", err)
	}
	wantFiles(t, n, class, "a 0644 value")
}

// Without the flag there is no socket. The metric is there, so that an alert can be written before it is switched on.
func TestProviderIsOff(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	if _, err := os.Lstat(n.ProviderSocket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is there: %v", err)
	}
	if got := n.MustMetric(t, `keyvault_csi_provider_requests_total{code="OK"}`); got != 0 {
		t.Errorf("%v calls are counted", got)
	}
}

// Another provider that starts later takes the socket. The driver reports it, and leaves that socket alone when it ends.
func TestProviderSocketIsTaken(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]v1alpha1.CSIDriverProviderServer{
		"by a provider":          otherProvider{},
		"by one without Version": v1alpha1.UnimplementedCSIDriverProviderServer{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takeSocket(t, node.New(t, node.Options{Provider: true}), other)
		})
	}
}

func takeSocket(t *testing.T, n *node.Node, other v1alpha1.CSIDriverProviderServer) {
	t.Helper()
	if err := os.Remove(n.ProviderSocket()); err != nil {
		t.Fatal(err)
	}
	if code, body, err := n.Get(t.Context(), "/healthz"); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("without the socket /healthz answers %d %s %v", code, body, err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", n.ProviderSocket())
	if err != nil {
		t.Fatal(err)
	}
	theirs := grpc.NewServer()
	v1alpha1.RegisterCSIDriverProviderServer(theirs, other)
	go func() { _ = theirs.Serve(listener) }()
	t.Cleanup(theirs.Stop)
	if code, body, err := n.Get(t.Context(), "/healthz"); err != nil || code != http.StatusOK {
		t.Errorf("/healthz answers %d %s %v, and a restart would end CSI too", code, body, err)
	}
	want := "probing " + n.ProviderSocket() + ": another program answers there; stop it, or the driver's service\n"
	if code, body, err := n.Get(t.Context(), "/readyz"); err != nil || code != http.StatusServiceUnavailable || body != want {
		t.Errorf("/readyz answers %d %s %v, want %s", code, body, err, want)
	}
	if state, err := n.StopDaemon(syscall.SIGTERM); err != nil || state.ExitCode() != 0 {
		t.Errorf("ended with %v, %v, want exit code 0", state, err)
	}
	if _, err := os.Lstat(n.ProviderSocket()); err != nil {
		t.Errorf("the driver has removed the socket of the other provider: %v", err)
	}
}

type otherProvider struct {
	v1alpha1.UnimplementedCSIDriverProviderServer
}

func (otherProvider) Version(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	return &v1alpha1.VersionResponse{Version: "v1alpha1", RuntimeName: "another-provider", RuntimeVersion: "1.8.0"}, nil
}

// A call in flight is answered before the daemon ends, and both sockets are removed.
func TestProviderGracefulStop(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	clear, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault})
	if err != nil {
		t.Fatal(err)
	}
	request := n.MustMountRequest(t, node.Class("web", "objects", objects("a")))
	provider := n.Provider(t)
	answered := make(chan error, 1)
	go func() {
		_, err := provider.Mount(t.Context(), request)
		answered <- err
	}()
	if err := n.Cloud.Wait(t.Context(), devcloud.CountKey{Service: devcloud.ServiceVault}, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitOutput(t, n, `"stopping"`)
	clear()
	if err := <-answered; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if state, err := n.StopDaemon(syscall.SIGTERM); err != nil || state.ExitCode() != 0 {
		t.Errorf("ended with %v, %v, want exit code 0", state, err)
	}
	for _, socket := range []string{n.Socket, n.ProviderSocket()} {
		if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", socket, err)
		}
	}
}
