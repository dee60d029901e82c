package driver

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	const required = "a version, a node id, a policy, a fetcher, a store and a registry are needed"
	long := "/" + strings.Repeat("x", 107)
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"valid":                 {func(*Config) {}, ""},
		"no name":               {func(c *Config) { c.Name = "" }, `the driver's name "" is not a domain name of at most 63 characters`},
		"bad name":              {func(c *Config) { c.Name = "a/b" }, `the driver's name "a/b" is not a domain name of at most 63 characters`},
		"no version":            {func(c *Config) { c.Version = "" }, required},
		"no node":               {func(c *Config) { c.NodeID = "" }, required},
		"no endpoint":           {func(c *Config) { c.Endpoint = "" }, `the endpoint "" is not of the form unix:///path`},
		"tcp":                   {func(c *Config) { c.Endpoint = "tcp://:1" }, `the endpoint "tcp://:1" is not of the form unix:///path`},
		"relative endpoint":     {func(c *Config) { c.Endpoint = "unix://x" }, `the endpoint "unix://x" is not of the form unix:///path`},
		"long endpoint":         {func(c *Config) { c.Endpoint = "unix://" + long }, `the path of the endpoint "unix://` + long + `" is longer than 107 bytes`},
		"relative registration": {func(c *Config) { c.RegistrationSocket = "x" }, `the registration socket "x" is not an absolute path`},
		"long registration":     {func(c *Config) { c.RegistrationSocket = long }, `the registration socket "` + long + `" is longer than 107 bytes`},
		"no kubelet root":       {func(c *Config) { c.KubeletRoot = "" }, `the kubelet's root "" is not an absolute path`},
		"relative kubelet CSI":  {func(c *Config) { c.KubeletCSISocket = "x" }, `the kubelet's CSI socket "x" is not an absolute path`},
		"no policy":             {func(c *Config) { c.Policy = nil }, required},
		"no fetcher":            {func(c *Config) { c.Fetcher = nil }, required},
		"no store":              {func(c *Config) { c.Store = nil }, required},
		"no registry":           {func(c *Config) { c.Registry = nil }, required},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig("/run", newFakes())
			tc.change(&c)
			_, err := New(c)
			if got := text(err); got != tc.want {
				t.Errorf("New = %q, want %q", got, tc.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSocket(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    string // of the error, with PATH; empty means that the driver serves
	}{
		"nothing":   {prepare: func(*testing.T, string) {}},
		"no folder": {prepare: func(t *testing.T, path string) { _ = os.Remove(filepath.Dir(path)) }},
		"stale": {prepare: func(t *testing.T, path string) {
			l := listenOn(t, path)
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}},
		"live": {
			prepare: func(t *testing.T, path string) {
				l := listenOn(t, path)
				t.Cleanup(func() { _ = l.Close() })
			},
			want: "another process listens on PATH; only one driver can",
		},
		"file": {
			prepare: func(t *testing.T, path string) {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "PATH is there and no socket; it has to be removed before the driver can listen there",
		},
		"dangling link": {
			prepare: func(t *testing.T, path string) {
				if err := os.Symlink("/nowhere", path); err != nil {
					t.Fatal(err)
				}
			},
			want: "PATH is there and no socket; it has to be removed before the driver can listen there",
		},
		"folder is a file": {
			prepare: func(t *testing.T, path string) {
				_ = os.Remove(filepath.Dir(path))
				if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "making the folder of the socket: mkdir DIR: not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(shortDir(t), "csi")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "csi.sock")
			tc.prepare(t, path)

			h := newHarness(t, newFakes(), func(c *Config) { c.Endpoint = "unix://" + path })
			if tc.want != "" {
				d, err := New(h.config)
				if err != nil {
					t.Fatal(err)
				}
				want := strings.NewReplacer("PATH", path, "DIR", dir).Replace(tc.want)
				if got := text(d.Run(silent(t))); got != want {
					t.Errorf("Run = %q, want %q", got, want)
				}
				return
			}

			h.start(t)
			if _, err := h.identity.Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("the socket is %v, %v, want Srw-------", info.Mode(), err)
			}
			if info, err := os.Stat(dir); name == "no folder" && (err != nil || info.Mode() != fs.ModeDir|0o700) {
				t.Errorf("the folder is %v, %v, want drwx------", info.Mode(), err)
			}
			if err := h.stop(); err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Run the socket is still there: %v", err)
			}
		})
	}
}

func listenOn(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestBadHTTPAddressEndsRunAtOnce(t *testing.T) {
	t.Parallel()
	c := testConfig(shortDir(t), newFakes())
	c.HTTPAddress = "127.0.0.1:http-but-wrong"
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(d.Run(silent(t))); !strings.HasPrefix(got, "listening for HTTP: ") {
		t.Errorf("Run = %q", got)
	}
	if _, err := os.Lstat(d.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the CSI socket was left behind: %v", err)
	}
}

// A call in flight is answered before Run ends; new ones are not accepted meanwhile.
func TestStopLetsCallsFinish(t *testing.T) {
	t.Parallel()
	f := newFakes()
	inside, leave := make(chan struct{}), make(chan struct{})
	f.fetch = func(ctx context.Context, _ volume.Request) (volume.Content, error) {
		close(inside)
		<-leave
		return volume.Content{Fetched: f.clock()}, ctx.Err()
	}
	h := startDriver(t, f)
	published := make(chan error)
	go func() { published <- h.publish(t) }()
	<-inside

	stopped := make(chan error)
	go func() { stopped <- h.stop() }()
	awaitGone(t, h.driver.socket)
	if _, err := csi.NewIdentityClient(dial(t, h.driver.socket)).Probe(t.Context(), &csi.ProbeRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a new call while stopping = %v, want Unavailable", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("Run ended with a call in flight: %v", err)
	default:
	}
	close(leave)
	if err := <-published; err != nil {
		t.Errorf("the call in flight = %v, want success", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// A call that takes longer than the grace is canceled, and Run waits for it to clean up.
func TestStopCancelsCallsAfterTheGrace(t *testing.T) {
	t.Parallel()
	f := newFakes()
	inside, cleaned := make(chan struct{}), false
	f.fetch = func(ctx context.Context, _ volume.Request) (volume.Content, error) {
		close(inside)
		<-ctx.Done()
		cleaned = true
		return volume.Content{}, ctx.Err()
	}
	h := newHarness(t, f)
	h.start(t)
	h.driver.grace = time.Millisecond
	published := make(chan error)
	go func() { published <- h.publish(t) }()
	<-inside

	if err := h.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if !cleaned {
		t.Error("Run did not wait for the canceled call")
	}
	if err := <-published; err == nil {
		t.Error("the canceled call succeeded")
	}
}

// awaitGone waits for a file to be removed by another goroutine.
func awaitGone(t *testing.T, path string) {
	t.Helper()
	await(t, path+" to be removed", func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes(), func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if got := get(t, h.http+path, http.StatusOK); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/", "/healthz/", "/metrics/x", "/debug/pprof/"} {
		get(t, h.http+path, http.StatusNotFound)
	}
	metrics := get(t, h.http+"/metrics", http.StatusOK)
	for _, want := range []string{
		`keyvault_csi_operations_seconds_count{code="OK",method="NodePublishVolume"} 1`,
		`keyvault_csi_build_info{go="go1.`, `version="v1.2.3"} 1`,
		`keyvault_csi_rotations_total{result="failed"} 0`, "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	// Whoever cannot be reached by the kubelet is not healthy, even if the process runs.
	if err := os.Remove(h.driver.socket); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := get(t, h.http+path, http.StatusServiceUnavailable); !strings.Contains(got, "probing "+h.driver.socket) {
			t.Errorf("%s = %q, want the reason", path, got)
		}
	}
}

// A policy that cannot be used is told, and is no reason to be unready.
func TestReadyTellsOfThePolicy(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.problem = errors.New("the policy file /x cannot be used: line 1:\nit is; everything is refused until it can")
	h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })
	const want = "ok, but the policy file /x cannot be used: line 1: it is; everything is refused until it can\n"
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": want} {
		if got := get(t, h.http+path, http.StatusOK); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(h.config.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n, err := testutil.GatherAndCount(h.config.Registry, "keyvault_csi_operations_seconds", "keyvault_csi_build_info"); err != nil || n != 2 {
		t.Errorf("%d series, %v; want 2", n, err)
	}
	if _, err := New(h.config); err == nil || !strings.HasPrefix(err.Error(), "registering metrics: ") {
		t.Errorf("a second driver on the same registry = %v, want an error", err)
	}
}

// Any server that fails ends Run with its error.
func TestServerFailureEndsRun(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"CSI", "HTTP"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			c := testConfig(shortDir(t), newFakes())
			c.HTTPAddress = "127.0.0.1:0"
			d, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			l, err := d.listen(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if which == "CSI" {
				_ = l.csi.Close()
			} else {
				_ = l.http.Close()
			}
			if got := text(d.serve(silent(t), l)); !strings.HasPrefix(got, "the "+which+" server ended: ") {
				t.Errorf("Run = %q", got)
			}
		})
	}
}

// A message above half a MiB is refused before it is read.
func TestMessageLimit(t *testing.T) {
	t.Parallel()
	const limit = 512 << 10
	h := startDriver(t, newFakes())
	r := h.request()
	r.Secrets = map[string]string{"other": strings.Repeat("x", limit/2)}
	r.Secrets["other"] += strings.Repeat("x", limit-proto.Size(r))
	_, err := h.node.NodePublishVolume(t.Context(), r)
	wantStatus(t, err, codes.OK, "")
	r.Secrets["other"] += "x"
	_, err = h.node.NodePublishVolume(t.Context(), r)
	wantStatus(t, err, codes.ResourceExhausted, "grpc: received message larger than max (524289 vs. 524288)")
}
