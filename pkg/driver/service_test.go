package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// extraServer stands in for a service beside CSI. It is CSI's Identity service, with a GetPluginInfo that runs the pipeline.
type extraServer struct {
	csi.UnimplementedIdentityServer

	pipeline *Pipeline
	use      func() error
}

func (s *extraServer) GetPluginInfo(ctx context.Context, _ *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	parse := func() (volume.Request, error) { return volume.Request{Timeout: time.Millisecond}, nil }
	err := s.pipeline.Run(ctx, nil, nil, parse, func(context.Context, volume.Content) error { return s.use() })
	return &csi.GetPluginInfoResponse{}, err
}

func (s *extraServer) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// notReady is another program's service.
type notReady struct {
	csi.UnimplementedIdentityServer
}

func (notReady) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// extra is its [Service].
type extra struct {
	server extraServer
	probe  func() // called by each probe, if set

	mu       sync.Mutex
	answered []string
	repeated bool
}

func (e *extra) Register(server grpc.ServiceRegistrar) { csi.RegisterIdentityServer(server, &e.server) }

func (e *extra) Describe(req any) (values []any, level int) {
	return []any{"described", fmt.Sprintf("%T", req), "long", strings.Repeat("l", 2000)}, 4
}

func (e *extra) Answered(req any, err error) (repeated bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answered = append(e.answered, fmt.Sprintf("%T %s", req, status.Code(err)))
	return e.repeated
}

func (e *extra) Probe(ctx context.Context, conn grpc.ClientConnInterface) (ours bool, err error) {
	if e.probe != nil {
		e.probe()
	}
	response, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	return response.GetReady().GetValue(), err
}

// startExtra runs a driver with a service beside CSI.
func startExtra(t *testing.T) (*harness, *extra) {
	t.Helper()
	e := &extra{}
	h := newHarness(t, newFakes(), func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	h.service = e
	h.start(t)
	e.server.pipeline = h.driver.Pipeline()
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return h, e
}

// A service has the codes, the log and the metrics of CSI.
func TestServiceBesideCSI(t *testing.T) {
	t.Parallel()
	h, e := startExtra(t)
	if info, err := os.Lstat(h.serviceSocket()); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v, want Srw-------", info, err)
	}
	client := csi.NewIdentityClient(dial(t, h.serviceSocket()))
	for _, test := range []struct {
		use  func() error
		code codes.Code
		text string
	}{
		{func() error { return nil }, codes.OK, ""},
		{func() error { return volume.Errorf(volume.ErrDenied, "no\nsecrets") }, codes.PermissionDenied, "no secrets"},
		{func() error { panic("MARKER") }, codes.Internal, "internal error; see the driver's log"},
	} {
		e.server.use = test.use
		_, err := client.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
		wantStatus(t, err, test.code, test.text)
	}
	want := []string{"*csi.GetPluginInfoRequest OK", "*csi.GetPluginInfoRequest PermissionDenied", "*csi.GetPluginInfoRequest Internal"}
	if !slices.Equal(e.answered, want) {
		t.Errorf("answered %q, want %q", e.answered, want)
	}
	if log := h.log.String(); !strings.Contains(log, `described="*csi.GetPluginInfoRequest" long="`+strings.Repeat("l", 1024)+`"`) || strings.Contains(log, "MARKER") {
		t.Errorf("the log is\n%s", log)
	}
	lines := strings.Count(h.log.String(), "call failed")
	e.repeated = true
	if _, err := client.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{}); err == nil {
		t.Error("the call succeeds")
	}
	if got := strings.Count(h.log.String(), "call failed"); lines != 2 || got != lines {
		t.Errorf("two failures and a repeated one are logged %d and %d times, want 2 and 0", lines, got-lines)
	}
	line := `keyvault_csi_operations_seconds_count{code="PermissionDenied",method="GetPluginInfo"} 1`
	if page := get(t, h.http+"/metrics", http.StatusOK); !strings.Contains(page, line) {
		t.Errorf("/metrics lacks %s", line)
	}

	_, err := csi.NewNodeClient(dial(t, h.serviceSocket())).NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{})
	wantStatus(t, err, codes.Unimplemented, "unknown service csi.v1.Node")
}

// The timeout of a volume that no user can set is not said to be an attribute.
func TestServiceTimeout(t *testing.T) {
	t.Parallel()
	h, e := startExtra(t)
	h.fakes.fetch = func(ctx context.Context, _ volume.Request) (volume.Content, error) {
		<-ctx.Done()
		return volume.Content{}, ctx.Err()
	}
	_, err := csi.NewIdentityClient(dial(t, h.serviceSocket())).GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
	wantStatus(t, err, codes.DeadlineExceeded, "not ready within the volume's timeout of 1ms: context deadline exceeded")
	if want := []string{"*csi.GetPluginInfoRequest DeadlineExceeded"}; !slices.Equal(e.answered, want) {
		t.Errorf("answered %q, want %q", e.answered, want)
	}
}

// A restart repairs a socket that is gone. It does not repair one that another program has taken: the driver would not start.
func TestServiceHealth(t *testing.T) {
	t.Parallel()
	h, _ := startExtra(t)
	check := func(path string, code int, want string) {
		t.Helper()
		if got := strings.TrimSpace(get(t, h.http+path, code)); got != want && (code == http.StatusOK || !strings.HasPrefix(got, want)) {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	check("/healthz", http.StatusOK, "ok")
	check("/readyz", http.StatusOK, "ok")

	if err := os.Remove(h.serviceSocket()); err != nil {
		t.Fatal(err)
	}
	check("/healthz", http.StatusServiceUnavailable, "probing "+h.serviceSocket()+": ")
	check("/readyz", http.StatusServiceUnavailable, "probing "+h.serviceSocket()+": ")

	other := grpc.NewServer()
	csi.RegisterIdentityServer(other, notReady{})
	listener := listenOn(t, h.serviceSocket())
	go func() { _ = other.Serve(listener) }()
	t.Cleanup(other.Stop)
	check("/healthz", http.StatusOK, "ok")
	check("/readyz", http.StatusServiceUnavailable,
		"probing "+h.serviceSocket()+": another program answers there; stop it, or the driver's service")

	if err := h.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if _, err := os.Lstat(h.serviceSocket()); err != nil {
		t.Errorf("the driver has removed the socket of the other program: %v", err)
	}
}

// Calls in flight at either socket are answered before Run ends.
func TestStopLetsCallsOfTheServiceFinish(t *testing.T) {
	t.Parallel()
	h, e := startExtra(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	e.server.use = func() error {
		close(inside)
		<-leave
		return nil
	}
	answered := make(chan error)
	go func() {
		_, err := csi.NewIdentityClient(dial(t, h.serviceSocket())).GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
		answered <- err
	}()
	<-inside
	stopped := make(chan error)
	go func() { stopped <- h.stop() }()
	awaitGone(t, h.serviceSocket())
	awaitGone(t, h.driver.socket)
	close(leave)
	if err := <-answered; err != nil {
		t.Errorf("the call in flight = %v, want success", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestServiceSockets(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := testConfig(dir, newFakes())
	c.RegistrationSocket = filepath.Join(dir, "reg.sock")
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("a", 107)
	for socket, want := range map[string]string{
		"azure.sock":        `"azure.sock" is not an absolute path`,
		long:                `"` + long + `" is longer than 107 bytes`,
		dir + "/./csi.sock": `"` + dir + `/./csi.sock" is another socket of the driver`,
		dir + "//reg.sock":  `"` + dir + `//reg.sock" is another socket of the driver`,
		dir + "/azure.sock": "",
		long[:107]:          "",
	} {
		if got := text(d.AddService(socket, &extra{})); got != want {
			t.Errorf("%s: %q, want %q", socket, got, want)
		}
	}

	live := dir + "/azure.sock"
	l := listenOn(t, live)
	defer func() { _ = l.Close() }()
	if err := d.AddService(live, &extra{}); err != nil {
		t.Fatal(err)
	}
	if got, want := text(d.Run(silent(t))), "another process listens on "+live+"; only one driver can"; got != want {
		t.Errorf("Run = %q, want %q", got, want)
	}
	if _, err := os.Lstat(d.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the CSI socket was left behind: %v", err)
	}
}
