package driver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// failing makes each refresh fail with text.
func failing(sentinel error, text string) func(context.Context, volume.Request) (volume.Content, error) {
	return func(context.Context, volume.Request) (volume.Content, error) {
		return volume.Content{}, volume.Errorf(sentinel, "%s", text)
	}
}

// Which age of a set leads to which answer and to how many fetches, when the vault fails. The driver's own interval is
// two minutes, so that a failure is tolerated for six.
func TestRepublishByAge(t *testing.T) {
	t.Parallel()

	const gone = "secret db-password not found"
	for name, tc := range map[string]struct {
		interval string // the attribute; empty means not given
		age      time.Duration
		fetches  int
		code     codes.Code
	}{
		"new":                          {age: 0},
		"almost due":                   {age: 2*time.Minute - 1},
		"due":                          {age: 2 * time.Minute, fetches: 1},
		"almost three intervals":       {age: 6*time.Minute - 1, fetches: 1},
		"three intervals":              {age: 6 * time.Minute, fetches: 1, code: codes.Unavailable},
		"from the future":              {age: -1, fetches: 1, code: codes.Unavailable},
		"far from the future":          {age: -time.Hour, fetches: 1, code: codes.Unavailable},
		"short: almost due":            {interval: "30s", age: 30*time.Second - 1},
		"short: due":                   {interval: "30s", age: 30 * time.Second, fetches: 1},
		"short: almost five minutes":   {interval: "30s", age: 5*time.Minute - 1, fetches: 1},
		"short: five minutes":          {interval: "30s", age: 5 * time.Minute, fetches: 1, code: codes.Unavailable},
		"long: due":                    {interval: "1h", age: time.Hour, fetches: 1},
		"long: almost three intervals": {interval: "1h", age: 3*time.Hour - 1, fetches: 1},
		"long: three intervals":        {interval: "1h", age: 3 * time.Hour, fetches: 1, code: codes.Unavailable},
		"a century: due":               {interval: "876000h", age: 876000 * time.Hour, fetches: 1},
		"never":                        {interval: "0", age: 1000 * time.Hour},
		"never, from the future":       {interval: "0", age: -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakes()
			h := startDriver(t, f)
			f.fetch = failing(volume.ErrNotFound, gone)
			f.sets[h.target()] = f.clock().Add(-tc.age)

			r := h.request()
			if tc.interval != "" {
				r.VolumeContext["rotationInterval"] = tc.interval
			}
			_, err := h.node.NodePublishVolume(t.Context(), r)
			text := ""
			if tc.code != codes.OK {
				text = gone
			}
			wantStatus(t, err, tc.code, text)
			if n := f.called("Fetch"); n != tc.fetches {
				t.Errorf("%d fetches, want %d", n, tc.fetches)
			}
			if f.called("Publish") != 0 || f.called("Unpublish") != 0 {
				t.Error("the set was touched")
			}
		})
	}
}

// Any failure is tolerated while the set is young, and later is Unavailable with its own text.
func TestRepublishToleratesAnyFailure(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(*fakes, *csi.NodePublishVolumeRequest)
		text    string
	}{
		"attributes": {
			prepare: func(_ *fakes, r *csi.NodePublishVolumeRequest) { r.VolumeContext["savePFX"] = "perhaps" },
			text:    `savePFX: "perhaps" must be true or false`,
		},
		"interval": {
			prepare: func(_ *fakes, r *csi.NodePublishVolumeRequest) { r.VolumeContext["rotationInterval"] = "1s" },
			text:    `rotationInterval: "1s" must be a Go duration of at least 30s such as "5m", or "0" for never`,
		},
		"policy": {
			prepare: func(f *fakes, _ *csi.NodePublishVolumeRequest) {
				f.allow = func(volume.Request) (volume.Permit, error) { return nil, volume.Errorf(volume.ErrDenied, "not you") }
			},
			text: "not you",
		},
		"fetch": {
			prepare: func(f *fakes, _ *csi.NodePublishVolumeRequest) { f.fetch = failing(volume.ErrUnauthenticated, "who?") },
			text:    "who?",
		},
		"fetch panics": {
			prepare: func(f *fakes, _ *csi.NodePublishVolumeRequest) {
				f.fetch = func(context.Context, volume.Request) (volume.Content, error) { panic("boom") }
			},
			text: "internal error; see the driver's log",
		},
		"store": {
			prepare: func(f *fakes, _ *csi.NodePublishVolumeRequest) {
				f.publish = func(context.Context, volume.Mount, volume.Content) (volume.Outcome, error) {
					return volume.Outcome{}, errors.New("no space left")
				}
			},
			text: "no space left",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakes()
			h := startDriver(t, f)
			r := h.request()
			tc.prepare(f, r)

			f.sets[h.target()] = f.clock().Add(-3 * time.Minute)
			_, err := h.node.NodePublishVolume(t.Context(), r)
			wantStatus(t, err, codes.OK, "")
			f.step(3 * time.Minute)
			_, err = h.node.NodePublishVolume(t.Context(), r)
			wantStatus(t, err, codes.Unavailable, tc.text)
			if f.called("Unpublish") != 0 {
				t.Error("the set was removed")
			}
		})
	}
}

// The driver's own interval applies instead of an invalid one: the request is not parsed before the set is due.
func TestRepublishWithBadInterval(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	f.sets[h.target()] = f.clock().Add(-119 * time.Second)
	r := h.request()
	r.VolumeContext["rotationInterval"] = "soon"
	_, err := h.node.NodePublishVolume(t.Context(), r)
	wantStatus(t, err, codes.OK, "")
	if n := f.called("Allow"); n != 0 {
		t.Error("the request was parsed")
	}
}

// A failure of Inspect is not tolerated, because it is not known whether there is a set.
func TestRefreshedFails(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.inspect = func(string) (volume.State, error) {
		return volume.State{Published: true, Fetched: f.clock()}, errors.New("statx: EIO")
	}
	h := startDriver(t, f)
	wantStatus(t, h.publish(t), codes.Internal, "statx: EIO")
	if n := f.called("Fetch"); n != 0 {
		t.Errorf("%d fetches, want none", n)
	}
}

// A caller that goes away is no failed refresh.
func TestCanceledRefreshLeavesNoTrace(t *testing.T) {
	t.Parallel()
	f := newFakes()
	inside, left := make(chan struct{}), make(chan struct{})
	f.fetch = func(ctx context.Context, _ volume.Request) (volume.Content, error) {
		close(inside)
		<-ctx.Done()
		defer close(left)
		return volume.Content{}, ctx.Err()
	}
	h := startDriver(t, f)
	f.sets[h.target()] = f.clock().Add(-2 * time.Minute)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-inside
		cancel()
	}()
	_, err := h.node.NodePublishVolume(ctx, h.request())
	wantStatus(t, err, codes.Canceled, "context canceled")
	if t.Failed() {
		return // the fetch may never have begun
	}
	<-left
	if err := h.stop(); err != nil { // waits for the handler
		t.Fatal(err)
	}
	if health, _ := h.driver.node.volumes.Load("csi-1"); health != (volumeHealth{}) {
		t.Errorf("recorded as a failure: %v", health)
	}
	if n := testutil.ToFloat64(h.driver.node.metrics.rotations.WithLabelValues(rotationFailed)); n != 0 {
		t.Errorf("counted %v failures", n)
	}
}

// A set that was made in an outage is due at each call until a refresh has worked, whatever the interval; then the interval
// holds. A failed refresh is tolerated like any other, by the age of the values.
func TestASetFromAnOutageIsDue(t *testing.T) {
	t.Parallel()
	for interval, tolerated := range map[string]time.Duration{"0": 5 * time.Minute, "30s": 5 * time.Minute, "24h": 72 * time.Hour} {
		t.Run(interval, func(t *testing.T) {
			t.Parallel()
			f := newFakes()
			h := startDriver(t, f)
			r := h.request()
			r.VolumeContext["rotationInterval"] = interval
			call := func(code codes.Code, text string, fetches int) {
				t.Helper()
				_, err := h.node.NodePublishVolume(t.Context(), r)
				wantStatus(t, err, code, text)
				if n := f.called("Fetch"); n != fetches {
					t.Errorf("%d fetches, want %d", n, fetches)
				}
			}
			f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
				return volume.Content{Fetched: f.clock().Add(-time.Second), Outage: volume.Errorf(volume.ErrUnavailable, "vault is down")}, nil
			}
			call(codes.OK, "", 1)
			f.fetch = failing(volume.ErrUnavailable, "vault is down")
			call(codes.OK, "", 2)
			call(codes.OK, "", 3)
			f.step(tolerated)
			call(codes.Unavailable, "vault is down", 4)
			f.fetch = nil
			call(codes.OK, "", 5)
			call(codes.OK, "", 5)
		})
	}
}

// A set that another process may have changed is refreshed at any age and interval.
func TestUnverifiedVolume(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	f.inspect = func(string) (volume.State, error) {
		return volume.State{Published: true, Fetched: f.clock(), Unverified: true}, nil
	}
	r := h.request()
	r.VolumeContext["rotationInterval"] = "0"
	before := f.called("Publish")
	if _, err := h.node.NodePublishVolume(t.Context(), r); err != nil || f.called("Publish") != before+1 {
		t.Errorf("%v, published %d times, want once", err, f.called("Publish")-before)
	}
}
