package driver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A failed refresh is logged once for each text, reported by NodeGetVolumeHealth, counted each time, and forgotten with the
// first success.
func TestFailedRefreshIsReported(t *testing.T) {
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
		var entries []string
		for _, s := range r.GetVolumeHealth().GetHealthStatuses() {
			entries = append(entries, s.GetStatus().String()+" "+s.GetReason()+" "+s.GetMessage())
		}
		return strings.Join(entries, ", ")
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
			name: "fails again", do: func() { f.step(2 * time.Minute); f.fetch = failing(volume.ErrUnavailable, "vault is slow") },
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

	if got := strings.Count(h.log.String(), "call failed"); got != 0 {
		t.Errorf("what is logged once is logged %d times more, as a call that failed", got)
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

// A gap in a chain is reported and logged once, until a refresh finds the chain complete. It hides no other reason.
func TestGapsAreReported(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	const gap = `objects[0]: certificate "web" of https://v.vault.azure.net has a gap in its chain`
	serve := func(gaps ...string) func() {
		return func() {
			f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
				return volume.Content{Fetched: f.clock(), Gaps: gaps}, nil
			}
		}
	}
	for _, step := range []struct {
		name   string
		do     func()
		health volumeHealth
		logged int
	}{
		{"first", serve(gap), volumeHealth{reasonIncompleteChain, gap}, 1},
		{"refresh", func() {}, volumeHealth{reasonIncompleteChain, gap}, 1},
		{"two", serve(gap, "another"), volumeHealth{reasonIncompleteChain, gap + "; another"}, 2},
		{"fails", func() { f.fetch = failing(volume.ErrUnavailable, "vault is down") }, volumeHealth{reasonRefreshFailed, "vault is down"}, 2},
		{"whole", serve(), volumeHealth{}, 2},
	} {
		step.do()
		wantStatus(t, h.publish(t), codes.OK, "")
		if got, _ := h.driver.node.volumes.Load("csi-1"); got != step.health {
			t.Errorf("%s: health is %v, want %v", step.name, got, step.health)
		}
		if got := strings.Count(h.log.String(), "incomplete chain"); got != step.logged {
			t.Errorf("%s: logged %d times, want %d", step.name, got, step.logged)
		}
		f.step(2 * time.Minute)
	}
}

// A volume with the last known files reports that until a refresh succeeds.
func TestLastKnownFilesAreReported(t *testing.T) {
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
		wantStatus(t, h.publish(t), codes.OK, "") // refreshes at any age, because the set was made in an outage
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

// What the store finds wrong is in the log, the metrics and the health of the volume until a clean refresh. The call
// succeeds.
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
	type report struct {
		Reason, Message    string
		Tampered, Writable float64
	}
	for _, step := range []struct {
		outcome volume.Outcome
		want    report
		logged  string
	}{
		{volume.Outcome{}, report{}, ""},
		{
			volume.Outcome{Changed: true, Tampered: "the time of its files"},
			report{"Tampered", "somebody else had changed the volume, and its files have been replaced: the time of its files", 1, 0},
			`"volume was changed by somebody else"`,
		},
		{
			volume.Outcome{Writable: "it stays writable; restart that container"},
			report{"Writable", "it stays writable; restart that container", 1, 1},
			`"volume is not read-only; the next call of the kubelet tries again"`,
		},
		{ // each minute, as long as a container keeps something open: it is logged once
			volume.Outcome{Writable: "it stays writable; restart that container"},
			report{"Writable", "it stays writable; restart that container", 1, 2},
			"",
		},
		{volume.Outcome{}, report{"", "", 1, 2}, ""},
	} {
		outcome = step.outcome
		f.step(3 * time.Minute)
		if err := h.publish(t); err != nil {
			t.Fatal(err)
		}
		got := report{
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
	if got := strings.Count(h.log.String(), "volume is not read-only"); got != 1 {
		t.Errorf("logged %d times that the volume is not read-only", got)
	}
}

// A refresh after which some objects are older than the interval, because the vault throttles, is published. It is reported like a failed one:
// logged once, and an error when the set is too old. It is counted as late.
func TestALateRefreshIsReported(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)
	f.sets[h.target()] = f.clock().Add(-2 * time.Minute)
	oldest := f.clock().Add(-2 * time.Minute)
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
		return volume.Content{Fetched: oldest, Outage: volume.Errorf(volume.ErrUnavailable, "the vault is throttled")}, nil
	}
	for i, step := range []struct {
		pass   time.Duration
		code   codes.Code
		logged int
	}{{0, codes.OK, 1}, {time.Minute, codes.OK, 1}, {time.Hour, codes.Unavailable, 2}, {time.Minute, codes.Unavailable, 2}} {
		f.step(step.pass)
		_, err := h.node.NodePublishVolume(t.Context(), h.request())
		text := ""
		if step.code != codes.OK {
			text = "the vault is throttled"
		}
		wantStatus(t, err, step.code, text)
		if got := strings.Count(h.log.String(), "volume not refreshed"); got != step.logged {
			t.Errorf("step %d: logged %d times, want %d", i, got, step.logged)
		}
		if got := int(testutil.ToFloat64(h.driver.node.metrics.rotations.WithLabelValues(rotationLate))); got != i+1 {
			t.Errorf("step %d: %d late refreshes", i, got)
		}
		f.mu.Lock()
		if set := f.sets[h.target()]; !set.Equal(oldest) {
			t.Errorf("step %d: the set at the target is of %v, want %v", i, set, oldest)
		}
		f.mu.Unlock()
	}
	if n := testutil.ToFloat64(h.driver.node.metrics.rotations.WithLabelValues(rotationFailed)); n != 0 {
		t.Errorf("%v failed refreshes", n)
	}
}
