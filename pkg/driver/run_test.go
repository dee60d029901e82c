package driver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

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

// A call that takes longer than the grace is canceled, and Run waits until it ends.
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
	h.driver.patience.grace = time.Millisecond
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
	ctx := suite.Context(t)
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
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
			open, err := d.listen(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if which == "CSI" {
				_ = open.csi.Close()
			} else {
				_ = open.web.Close()
			}
			if got := text(d.serve(silent(t), open)); !strings.HasPrefix(got, "the "+which+" server ended: ") {
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
