package driver

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// beforeMetric reads the gauge of the volumes that the policy wants to be fetched again.
func (h *harness) beforeMetric(t testing.TB) int {
	t.Helper()
	families, err := h.config.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "keyvault_csi_volumes_before_refresh_after" {
			return int(family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("no such metric")
	return 0
}

// Which sets are fetched again for a refreshAfter, whatever their interval, and how often.
func TestRefreshAfter(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		interval string
		age      time.Duration // of the set
		after    time.Duration // of the refreshAfter; 0: none
		fetches  int           // in two calls
	}{
		"a young set, fetched before":        {"2m", time.Minute, 30 * time.Second, 1},
		"a young set, fetched at that time":  {"2m", time.Minute, time.Minute, 0},
		"a young set, fetched after":         {"2m", time.Minute, 2 * time.Minute, 0},
		"a young set, fetched just before":   {"2m", time.Minute, time.Minute - 1, 1},
		"never refreshed, fetched before":    {"0", 1000 * time.Hour, time.Second, 1},
		"never refreshed, fetched after":     {"0", time.Hour, 2 * time.Hour, 0},
		"never refreshed, from the future":   {"0", -time.Hour, time.Second, 1},
		"never refreshed, no refreshAfter":   {"0", 1000 * time.Hour, 0, 0},
		"an old set, fetched after":          {"2m", time.Hour, 2 * time.Hour, 1},
		"an invalid interval, fetched later": {"soon", time.Minute, 2 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakes()
			h := startDriver(t, f)
			after := f.clock().Add(-tc.after)
			f.after = func(_ volume.Request, now time.Time) time.Time {
				if tc.after == 0 {
					return time.Time{}
				}
				if !now.Equal(f.clock()) {
					t.Errorf("the policy is asked about %v, now is %v", now, f.clock())
				}
				return after
			}
			var demands []time.Time
			f.fetch = func(_ context.Context, r volume.Request) (volume.Content, error) {
				demands = append(demands, r.NotBefore)
				return volume.Content{Fetched: f.clock()}, nil
			}
			if tc.age >= 0 {
				f.sets[h.target()] = f.clock().Add(-tc.age)
			} else {
				f.sets[h.target()] = time.Time{} // see volume.State
			}
			r := h.request()
			r.VolumeContext["rotationInterval"] = tc.interval
			for range 2 {
				if _, err := h.node.NodePublishVolume(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			if len(demands) != tc.fetches || tc.fetches > 0 && tc.after != 0 && !demands[0].Equal(after) {
				t.Errorf("fetched %v, want %d with %v", demands, tc.fetches, after)
			}
			if got := h.beforeMetric(t); got != 0 {
				t.Errorf("%d volumes are from before", got)
			}
		})
	}
}

// A set with values that a list has shown to be unchanged is as old as the lists for its interval, and as the values for the
// policy: a refreshAfter in the past is about what was read, also if it is set later.
func TestRefreshAfterOfListedValues(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	after := time.Time{}
	f.after = func(volume.Request, time.Time) time.Time { return after }
	fetches, read := 0, f.clock().Add(-time.Hour)
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
		fetches++
		return volume.Content{Fetched: f.clock(), Read: read}, nil
	}
	call := func(want, before int) {
		t.Helper()
		wantStatus(t, h.publish(t), codes.OK, "")
		if fetches != want {
			t.Errorf("%d fetches, want %d", fetches, want)
		}
		if got := h.beforeMetric(t); got != before {
			t.Errorf("%d volumes are from before, want %d", got, before)
		}
	}
	call(1, 0)
	call(1, 0)
	after = read
	call(1, 0)
	after = read.Add(1)
	call(2, 1)
	read = f.clock()
	call(3, 0)
	call(3, 0)
}

// A first mount demands it too, and a failure is one of the refresh: it is tolerated by the age of the set, counted, and the
// volume stays in the metric until it is fetched or removed.
func TestRefreshAfterFails(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	after := f.clock()
	f.after = func(volume.Request, time.Time) time.Time { return after }
	var demanded time.Time
	f.fetch = func(_ context.Context, r volume.Request) (volume.Content, error) {
		demanded = r.NotBefore
		return volume.Content{Fetched: f.clock()}, nil
	}
	call := func(code codes.Code, text string, before int) {
		t.Helper()
		wantStatus(t, h.publish(t), code, text)
		if got := h.beforeMetric(t); got != before {
			t.Errorf("%d volumes are from before, want %d", got, before)
		}
	}
	f.step(time.Second)
	call(codes.OK, "", 0)
	if !demanded.Equal(after) {
		t.Errorf("a first mount demands %v, want %v", demanded, after)
	}
	f.step(time.Minute)
	after = f.clock()
	if got := h.beforeMetric(t); got != 1 {
		t.Errorf("%d volumes are from before, want 1 before the next call of the kubelet", got)
	}
	f.fetch = failing(volume.ErrUnavailable, "vault is down")
	call(codes.OK, "", 1)
	if n := testutil.ToFloat64(h.driver.node.metrics.rotations.WithLabelValues(rotationFailed)); n != 1 {
		t.Errorf("%v failures, want 1", n)
	}
	f.step(6 * time.Minute)
	call(codes.Unavailable, "vault is down", 1)
	f.fetch = nil
	call(codes.OK, "", 0)
	after = after.Add(time.Hour)
	if got := h.beforeMetric(t); got != 1 {
		t.Errorf("%d volumes are from before, want 1", got)
	}
	if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
		t.Fatal(err)
	}
	if got := h.beforeMetric(t); got != 0 {
		t.Errorf("a volume that is gone counts")
	}
}

// Before the attributes of a volume have been parsed, only its pod is known. A volume for which a rule turns out not to be is
// parsed once, neither fetched nor refused, and no longer counted.
func TestRefreshAfterOfAnotherRule(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	var asked []volume.Request
	f.after = func(r volume.Request, now time.Time) time.Time {
		asked = append(asked, r)
		if r.Identity.Kind == "" || len(r.Objects) == 2 {
			return now
		}
		return time.Time{}
	}
	f.allow = func(volume.Request) (volume.Permit, error) { return nil, volume.Errorf(volume.ErrDenied, "not you") }
	f.sets[h.target()] = f.clock().Add(-time.Minute)
	for range 3 {
		wantStatus(t, h.publish(t), codes.OK, "")
	}
	pod := volume.Pod{Name: "api-0", Namespace: "payments", UID: "uid-1", ServiceAccount: "api"}
	parsed := volume.Request{
		Pod: pod, Identity: volume.Identity{Kind: volume.Workload, ClientID: "11111111-2222-3333-4444-555555555555"},
		Objects: []volume.Object{{Vault: "https://myvault.vault.azure.net"}},
	}
	want := []volume.Request{{Pod: pod}, parsed, parsed, parsed}
	if diff := cmp.Diff(want, asked, cmp.Comparer(func(a, b volume.Secret) bool { return bytes.Equal(a.Reveal(), b.Reveal()) })); diff != "" {
		t.Errorf("the policy is asked about (-want +got):\n%s", diff)
	}
	if f.called("Allow") != 0 || f.called("Fetch") != 0 || h.beforeMetric(t) != 0 {
		t.Errorf("%d questions for a permission, %d fetches, %d volumes from before; want none",
			f.called("Allow"), f.called("Fetch"), h.beforeMetric(t))
	}
	if health, _ := h.driver.node.volumes.Load("csi-1"); health != (volumeHealth{}) {
		t.Errorf("the health of the volume is %v", health)
	}
}

// A volume that a refreshAfter is about, and that the policy now refuses, keeps its files and says why.
func TestRefreshAfterOfARefusedVolume(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	f.after = func(_ volume.Request, now time.Time) time.Time { return now }
	f.allow = func(volume.Request) (volume.Permit, error) { return nil, volume.Errorf(volume.ErrDenied, "not you") }
	f.sets[h.target()] = f.clock().Add(-time.Hour)
	r := h.request()
	r.VolumeContext["rotationInterval"] = "0"
	_, err := h.node.NodePublishVolume(t.Context(), r)
	wantStatus(t, err, codes.Unavailable, "not you")
	if h.beforeMetric(t) != 1 || f.called("Unpublish") != 0 {
		t.Errorf("%d volumes from before, want 1", h.beforeMetric(t))
	}
}

// A store that fails leaves the old time.
func TestRefreshAfterWithoutMemory(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	after := f.clock()
	f.after = func(volume.Request, time.Time) time.Time { return after }
	f.publish = func(context.Context, volume.Mount, volume.Content) (volume.Outcome, error) {
		return volume.Outcome{}, errors.New("no space left")
	}
	f.sets[h.target()] = f.clock().Add(-time.Minute)
	wantStatus(t, h.publish(t), codes.OK, "")
	if got := h.beforeMetric(t); got != 1 {
		t.Errorf("%d volumes from before, want 1", got)
	}
}

// The vault of a password counts like those of the objects.
func TestRefreshAfterOfAPassword(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	var asked volume.Request
	f.after = func(r volume.Request, _ time.Time) time.Time {
		asked = r
		return time.Time{}
	}
	f.sets[h.target()] = f.clock().Add(-time.Hour)
	request := h.request()
	request.VolumeContext["objects"] = "- {certificate: web, pfx: web.p12, pfxPassword: {secret: p, vault: other}}"
	_, err := h.node.NodePublishVolume(t.Context(), request)
	wantStatus(t, err, codes.OK, "")
	want := []string{"https://myvault.vault.azure.net", "https://other.vault.azure.net"}
	if diff := cmp.Diff(want, asked.Vaults()); diff != "" {
		t.Errorf("the policy is asked about (-want +got):\n%s", diff)
	}
}
