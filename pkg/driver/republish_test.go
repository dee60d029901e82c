package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
// two minutes, so that a failure is put up with for six.
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
		"almost of age":                {age: 2*time.Minute - 1},
		"of age":                       {age: 2 * time.Minute, fetches: 1},
		"almost three intervals":       {age: 6*time.Minute - 1, fetches: 1},
		"three intervals":              {age: 6 * time.Minute, fetches: 1, code: codes.Unavailable},
		"from the future":              {age: -1, fetches: 1, code: codes.Unavailable},
		"far from the future":          {age: -time.Hour, fetches: 1, code: codes.Unavailable},
		"short: almost of age":         {interval: "30s", age: 30*time.Second - 1},
		"short: of age":                {interval: "30s", age: 30 * time.Second, fetches: 1},
		"short: almost five minutes":   {interval: "30s", age: 5*time.Minute - 1, fetches: 1},
		"short: five minutes":          {interval: "30s", age: 5 * time.Minute, fetches: 1, code: codes.Unavailable},
		"long: of age":                 {interval: "1h", age: time.Hour, fetches: 1},
		"long: almost three intervals": {interval: "1h", age: 3*time.Hour - 1, fetches: 1},
		"long: three intervals":        {interval: "1h", age: 3 * time.Hour, fetches: 1, code: codes.Unavailable},
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

// Whatever fails is put up with while the set is young, and told as Unavailable with its own text later.
func TestRepublishPutsUpWithAnyFailure(t *testing.T) {
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

// An interval that is no duration stands for the driver's own: a set that is there is not parsed before it is of age.
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

// What cannot be told to be there is not tolerated: the store's own failure is answered.
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

// A failing refresh is logged once for each text, told by NodeGetVolumeHealth, counted each time, and forgotten with
// the first success.
func TestFailedRefreshIsTold(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	f.fetch = failing(volume.ErrUnavailable, "vault is down")
	f.sets[h.target()] = f.clock().Add(-2 * time.Minute)

	health := func() string {
		t.Helper()
		r, err := h.node.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: "csi-1", VolumePublishPath: h.target()})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, s := range r.GetVolumeHealth().GetHealthStatuses() {
			told = append(told, s.GetStatus().String()+" "+s.GetReason()+" "+s.GetMessage())
		}
		return strings.Join(told, ", ")
	}
	steps := []struct {
		name   string
		do     func()
		health string
		logged int // lines of a failed refresh so far
		failed int // keyvault_csi_rotations_total{result="failed"}
		code   codes.Code
	}{
		{name: "fails", health: "DEGRADED RefreshFailed vault is down", logged: 1, failed: 1},
		{name: "fails again", health: "DEGRADED RefreshFailed vault is down", logged: 1, failed: 2},
		{
			name: "another text", do: func() { f.fetch = failing(volume.ErrUnavailable, "vault is slow") },
			health: "DEGRADED RefreshFailed vault is slow", logged: 2, failed: 3,
		},
		{
			name: "stale", do: func() { f.step(4 * time.Minute) },
			health: "DEGRADED Stale vault is slow", logged: 3, failed: 4, code: codes.Unavailable,
		},
		{name: "still stale", health: "DEGRADED Stale vault is slow", logged: 3, failed: 5, code: codes.Unavailable},
		{name: "works", do: func() { f.fetch = nil }, health: "", logged: 3, failed: 5},
		{
			name: "fails anew", do: func() { f.step(2 * time.Minute); f.fetch = failing(volume.ErrUnavailable, "vault is slow") },
			health: "DEGRADED RefreshFailed vault is slow", logged: 4, failed: 6,
		},
	}
	for _, s := range steps {
		if s.do != nil {
			s.do()
		}
		_, err := h.node.NodePublishVolume(t.Context(), h.request())
		text := ""
		if s.code != codes.OK {
			text = "vault is slow"
		}
		wantStatus(t, err, s.code, text)
		if got := health(); got != s.health {
			t.Errorf("%s: health is %q, want %q", s.name, got, s.health)
		}
		if got := strings.Count(h.log.String(), "volume not refreshed"); got != s.logged {
			t.Errorf("%s: logged %d times, want %d", s.name, got, s.logged)
		}
		if got := int(testutil.ToFloat64(h.driver.node.metrics.rotations.WithLabelValues(rotationFailed))); got != s.failed {
			t.Errorf("%s: counted %d failures, want %d", s.name, got, s.failed)
		}
	}

	if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
		t.Fatal(err)
	}
	if _, known := h.driver.node.volumes.Load("csi-1"); known {
		t.Error("the failure outlives the volume")
	}
}

func TestRotationsAreCounted(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	changed := true
	f.publish = func(_ context.Context, m volume.Mount, c volume.Content) (volume.Outcome, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sets[m.Target] = c.Fetched
		return volume.Outcome{Changed: changed}, nil
	}
	count := func(result string) int {
		return int(testutil.ToFloat64(h.driver.node.metrics.rotations.WithLabelValues(result)))
	}
	for i, want := range [][2]int{{0, 0}, {1, 0}, {1, 1}} { // the first publish is no rotation
		changed = i < 2
		if err := h.publish(t); err != nil {
			t.Fatal(err)
		}
		f.step(2 * time.Minute)
		if got := [2]int{count(rotationChanged), count(rotationUnchanged)}; got != want {
			t.Errorf("after %d publishes: %v changed and unchanged, want %v", i+1, got, want)
		}
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

// The fetcher learns which volume asks, whether it has files already, and when it has gone.
func TestTheFetcherKnowsTheVolume(t *testing.T) {
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

// A volume whose files are the last known ones is a volume, and says so until a refresh has worked.
func TestLastKnownFilesAreTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		age    time.Duration
		health string
		stale  bool
	}{
		{4 * time.Minute, "DEGRADED RefreshFailed the files are the last that this node saw: vault is down", false},
		{time.Hour, "DEGRADED Stale the files are the last that this node saw: vault is down", true},
	} {
		f := newFakes()
		h := startDriver(t, f)
		f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
			return volume.Content{Fetched: f.clock().Add(-test.age), Outage: volume.Errorf(volume.ErrUnavailable, "vault is down")}, nil
		}
		states := func(fresh, stale int) {
			t.Helper()
			want := fmt.Sprintf("# HELP keyvault_csi_volumes Volumes that the kubelet has called for since the start; "+
				"stale are those that could not be refreshed for longer than is tolerated.\n"+
				"# TYPE keyvault_csi_volumes gauge\nkeyvault_csi_volumes{state=\"fresh\"} %d\nkeyvault_csi_volumes{state=\"stale\"} %d\n", fresh, stale)
			if err := testutil.GatherAndCompare(h.config.Registry, strings.NewReader(want), "keyvault_csi_volumes"); err != nil {
				t.Error(err)
			}
		}
		health := func() string {
			t.Helper()
			r, err := h.node.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: "csi-1", VolumePublishPath: h.target()})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range r.GetVolumeHealth().GetHealthStatuses() {
				return s.GetStatus().String() + " " + s.GetReason() + " " + s.GetMessage()
			}
			return ""
		}
		states(0, 0)
		wantStatus(t, h.publish(t), codes.OK, "")
		if got := health(); got != test.health {
			t.Errorf("health is %q, want %q", got, test.health)
		}
		if !strings.Contains(h.log.String(), "volume published without the vault") {
			t.Error("not logged")
		}
		if test.stale {
			states(0, 1)
		} else {
			states(1, 0)
		}
		f.fetch = nil
		wantStatus(t, h.publish(t), codes.OK, "") // of age, as the last known value was
		if got := health(); got != "" {
			t.Errorf("after a refresh that worked the health is %q", got)
		}
		states(1, 0)
		if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
			t.Fatal(err)
		}
		states(0, 0)
	}
}

// A set that was made in an outage is due at each call until a refresh has worked, whatever the interval; then the interval holds. A
// failed refresh is tolerated like any other, by the age of the values.
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
