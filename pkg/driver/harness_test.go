package driver

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// harness is a driver that serves on real sockets, with fakes behind its three interfaces.
type harness struct {
	node     csi.NodeClient
	identity csi.IdentityClient
	fakes    *fakes
	driver   *Driver
	config   Config
	dir      string // holds the sockets, and the kubelet's root
	http     string // http://host:port, if HTTPAddress is set
	log      *logBuffer
	service  Service                              // beside CSI, if set
	level    int                                  // of the log
	after    func(time.Duration) <-chan time.Time // nil means time.After

	stop func() error // ends the context of Run and returns its error; may be called again
}

// logBuffer collects the log at the highest verbosity.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// shortDir is a folder in which the path of a socket fits into a sockaddr_un.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func testConfig(dir string, f *fakes) Config {
	return Config{
		Name:        "keyvault-csi.io",
		Version:     "v1.2.3",
		NodeID:      "node-1",
		Endpoint:    "unix://" + filepath.Join(dir, "csi.sock"),
		KubeletRoot: filepath.Join(dir, "kubelet"),
		Defaults:    volume.Defaults{RotationInterval: 2 * time.Minute},
		Policy:      f,
		Fetcher:     f,
		Store:       f,
		Registry:    prometheus.NewRegistry(),
	}
}

// newHarness has a valid configuration, and does not run it.
func newHarness(t testing.TB, f *fakes, configure ...func(*Config)) *harness {
	t.Helper()
	h := &harness{fakes: f, dir: shortDir(t), log: &logBuffer{}, level: 10}
	h.config = testConfig(h.dir, f)
	for _, change := range configure {
		change(&h.config)
	}
	return h
}

// startDriver runs a driver until the test ends. Run must then return nil.
func startDriver(t testing.TB, f *fakes, configure ...func(*Config)) *harness {
	t.Helper()
	h := newHarness(t, f, configure...)
	h.start(t)
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return h
}

// start runs the driver of h.config. The caller must call h.stop.
func (h *harness) start(t testing.TB) {
	t.Helper()
	var err error
	if h.driver, err = New(h.config); err != nil {
		t.Fatal(err)
	}
	if h.service != nil {
		if err := h.driver.AddService(h.serviceSocket(), h.service); err != nil {
			t.Fatal(err)
		}
	}
	h.driver.node.now, h.driver.node.pipeline.now = h.fakes.clock, h.fakes.clock
	h.driver.patience = patience{suite.Patience, suite.Patience, suite.Patience}
	if h.after != nil {
		h.driver.after = h.after
	}
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Verbosity(h.level), textlogger.Output(h.log)))
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	open, err := h.driver.listen(ctx)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if open.web != nil {
		h.http = "http://" + open.web.Addr().String()
	}
	ended := make(chan error, 1)
	go func() { ended <- h.driver.serve(ctx, open) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})

	conn := dial(t, h.driver.socket)
	h.node, h.identity = csi.NewNodeClient(conn), csi.NewIdentityClient(conn)
}

func (h *harness) serviceSocket() string { return filepath.Join(h.dir, "service.sock") }

// silent is the test's context with a logger that discards everything, for drivers that must fail.
func silent(t testing.TB) context.Context { return klog.NewContext(t.Context(), klog.Logger{}) }

func dial(t testing.TB, socket string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("unix://"+socket, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (h *harness) target() string {
	return filepath.Join(h.dir, "kubelet/pods/uid-1/volumes/kubernetes.io~csi/secrets/mount")
}

const testAudience = "api://AzureADTokenExchange"

// testToken is a service account token without a valid signature.
func testToken(signature string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." +
		encode([]byte(`{"sub":"system:serviceaccount:payments:api"}`)) + "." +
		encode([]byte(signature))
}

// request is valid in every way; tests change one thing.
func (h *harness) request() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId:   "csi-1",
		TargetPath: h.target(),
		Readonly:   true,
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
		VolumeContext: map[string]string{
			"vault":                                    "https://myvault.vault.azure.net",
			"clientID":                                 "11111111-2222-3333-4444-555555555555",
			"secrets":                                  "db-password",
			"csi.storage.k8s.io/ephemeral":             "true",
			"csi.storage.k8s.io/pod.name":              "api-0",
			"csi.storage.k8s.io/pod.namespace":         "payments",
			"csi.storage.k8s.io/pod.uid":               "uid-1",
			"csi.storage.k8s.io/serviceAccount.name":   "api",
			"csi.storage.k8s.io/serviceAccount.tokens": `{"` + testAudience + `":{"token":"` + testToken("sig") + `"}}`,
		},
	}
}

func (h *harness) unpublish() *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: h.target()}
}

func (h *harness) publish(t testing.TB) error {
	_, err := h.node.NodePublishVolume(t.Context(), h.request())
	return err
}

// wantStatus checks code and text; both empty mean success.
func wantStatus(t testing.TB, err error, code codes.Code, text string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || got.Message() != text {
		t.Errorf("got  %v %q\nwant %v %q", got.Code(), got.Message(), code, text)
	}
}
