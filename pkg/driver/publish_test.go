package driver

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestNodePublishVolumePassesOn(t *testing.T) {
	t.Parallel()
	f := newFakes()
	var got volume.Mount
	var request volume.Request
	f.fetch = func(ctx context.Context, r volume.Request) (volume.Content, error) {
		request = r
		if _, limited := ctx.Deadline(); !limited {
			t.Error("the context of Fetch has no deadline")
		}
		return volume.Content{Fetched: f.clock(), Folders: []string{"mark"}}, nil
	}
	f.publish = func(_ context.Context, m volume.Mount, c volume.Content) (volume.Outcome, error) {
		got = m
		if !cmp.Equal(c.Folders, []string{"mark"}) {
			t.Errorf("Publish got %v, want what Fetch gave", c)
		}
		return volume.Outcome{Changed: true}, nil
	}
	h := startDriver(t, f)

	r := h.request()
	r.TargetPath = h.config.KubeletRoot + "/pods//x/./mount/"
	r.GetVolumeCapability().GetMount().VolumeMountGroup = "2000"
	if _, err := h.node.NodePublishVolume(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	group := uint32(2000)
	want := volume.Mount{Target: h.config.KubeletRoot + "/pods/x/mount", Group: &group}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Publish got another mount (-want +got):\n%s", diff)
	}
	wantPod := volume.Pod{Name: "api-0", Namespace: "payments", UID: "uid-1", ServiceAccount: "api"}
	if request.Pod != wantPod || request.RotationInterval != h.config.Defaults.RotationInterval {
		t.Errorf("Fetch got %+v every %v, want %+v and the default", request.Pod, request.RotationInterval, wantPod)
	}
}

// The fetcher checks the permit with the identity in the token.
func TestThePermitReachesTheFetcher(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.allow = func(volume.Request) (volume.Permit, error) {
		return func(who volume.Principal) error { return volume.Errorf(volume.ErrDenied, "not %s", who.ClientID) }, nil
	}
	f.fetch = func(_ context.Context, r volume.Request) (volume.Content, error) {
		return volume.Content{}, r.Permit(volume.Principal{ClientID: "you"})
	}
	wantStatus(t, startDriver(t, f).publish(t), codes.PermissionDenied, "not you")
}

// A refusal of the policy or a failed fetch leaves the node as it was.
func TestNothingIsStoredAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*fakes){
		"policy": func(f *fakes) {
			f.allow = func(volume.Request) (volume.Permit, error) { return nil, volume.Errorf(volume.ErrDenied, "no") }
		},
		"fetch": func(f *fakes) {
			f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
				return volume.Content{}, volume.Errorf(volume.ErrDenied, "no")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakes()
			prepare(f)
			h := startDriver(t, f)
			wantStatus(t, h.publish(t), codes.PermissionDenied, "no")
			if n := f.called("Publish"); n != 0 {
				t.Errorf("the store was called %d times", n)
			}
		})
	}
}

func TestPublishTenTimesIsOneSet(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	for range 10 {
		if err := h.publish(t); err != nil {
			t.Fatal(err)
		}
	}
	if fetches, stores := f.called("Fetch"), f.called("Publish"); fetches != 1 || stores != 1 {
		t.Errorf("%d fetches and %d stores, want 1 and 1", fetches, stores)
	}
}

func TestVolumeTimeout(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.fetch = func(ctx context.Context, _ volume.Request) (volume.Content, error) {
		<-ctx.Done()
		return volume.Content{}, ctx.Err()
	}
	h := startDriver(t, f)
	r := h.request()
	r.VolumeContext["timeout"] = "10ms"
	_, err := h.node.NodePublishVolume(t.Context(), r)
	wantStatus(t, err, codes.DeadlineExceeded,
		"not ready within the volume's timeout of 10ms (attribute timeout): context deadline exceeded")
}

// The fetcher gets the id of the volume, whether it has files already, and when it is gone.
func TestTheFetcherGetsTheVolume(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	var asked []string
	f.fetch = func(_ context.Context, r volume.Request) (volume.Content, error) {
		asked = append(asked, fmt.Sprint(r.Volume, " ", r.Refresh))
		if len(asked) == 1 {
			return volume.Content{}, volume.Errorf(volume.ErrUnavailable, "vault is down")
		}
		return volume.Content{Fetched: f.clock()}, nil
	}
	wantStatus(t, h.publish(t), codes.Unavailable, "vault is down")
	if n := f.called("Forget csi-1"); n != 1 {
		t.Errorf("a volume that was not made is forgotten %d times, want 1", n)
	}
	for range 3 { // the second is inside the interval
		wantStatus(t, h.publish(t), codes.OK, "")
		f.step(time.Minute)
	}
	if want := []string{"csi-1 false", "csi-1 false", "csi-1 true"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if n := f.called("Forget csi-1"); n != 1 {
		t.Errorf("a volume that is there was forgotten")
	}
	if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
		t.Fatal(err)
	}
	if n := f.called("Forget csi-1"); n != 2 {
		t.Errorf("a volume that has gone is not forgotten")
	}
}
