package driver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What the store finds wrong is in the log, the metrics and the health of the volume, until a clean refresh; the call itself succeeds.
func TestTamperedVolume(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	var outcome volume.Outcome
	f.publish = func(_ context.Context, m volume.Mount, c volume.Content) (volume.Outcome, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sets[m.Target] = c.Fetched
		return outcome, nil
	}
	type told struct {
		Reason, Message    string
		Tampered, Writable float64
	}
	for _, step := range []struct {
		outcome volume.Outcome
		want    told
		logged  string
	}{
		{volume.Outcome{}, told{}, ""},
		{
			volume.Outcome{Changed: true, Tampered: "the time of its files"},
			told{"Tampered", "somebody else had changed the volume, and its files have been replaced: the time of its files", 1, 0},
			`"volume was changed by somebody else"`,
		},
		{
			volume.Outcome{Writable: "it stays writable; restart that container"},
			told{"Writable", "it stays writable; restart that container", 1, 1},
			`"volume is not read-only; the next call of the kubelet tries again"`,
		},
		{volume.Outcome{}, told{"", "", 1, 1}, ""},
	} {
		outcome = step.outcome
		f.step(3 * time.Minute)
		if err := h.publish(t); err != nil {
			t.Fatal(err)
		}
		got := told{
			Tampered: testutil.ToFloat64(h.driver.node.metrics.tampered),
			Writable: testutil.ToFloat64(h.driver.node.metrics.writable),
		}
		health, err := h.node.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: h.request().GetVolumeId()})
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range health.GetVolumeHealth().GetHealthStatuses() {
			got.Reason, got.Message = entry.GetReason(), entry.GetMessage()
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", step.outcome, diff)
		}
		if !strings.Contains(h.log.String(), step.logged) {
			t.Errorf("%+v: not in the log: %s", step.outcome, step.logged)
		}
	}
}

// A set that somebody else may have changed is refreshed however young it is, and whatever its interval.
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
