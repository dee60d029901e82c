package observe_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/observe"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// How fast time passes here: what is five minutes or an hour of a rule is window, what an alert waits for is wait.
const (
	interval = 300 * time.Millisecond // of scrapes and evaluations
	window   = 1800 * time.Millisecond
	wait     = 750 * time.Millisecond
	patience = 30 * time.Second // until an alert must fire or have gone, on a busy machine
)

// run is one run of all scenes, and what was seen of it.
type run struct {
	stage      *observe.Stage
	prometheus *observe.Prometheus // nil where it is not installed
	rules      []observe.Rule      // quickened
	seen       vocabulary
	began      map[string]time.Time // by scene
	ended      map[string]time.Time
	fired      map[string]observe.Alert // by name: the last that was seen firing
}

// TestScenes plays everything that can go wrong, and looks at what the dashboard and the alerts make of it.
func TestScenes(t *testing.T) {
	t.Parallel()
	r := start(t)
	from := time.Now()
	for _, scene := range observe.Scenes() {
		r.play(t, scene)
	}
	to := time.Now()
	t.Run("names", func(t *testing.T) { r.checkNames(t) })
	t.Run("Prometheus", func(t *testing.T) {
		if r.prometheus == nil {
			t.Skip(observe.ErrNoPrometheus)
		}
		r.checkQuiet(t)
		r.checkDashboard(t, from, to)
		r.checkRules(t, from, to)
		r.checkPhases(t, from)
		r.checkTexts(t)
		if !t.Failed() {
			suite.Verdict(t, "observe: %d scenes under a real Prometheus in %s, %d alerts fired in theirs and in no other",
				len(r.began), to.Sub(from).Round(time.Second), len(r.fired))
		}
	})
}

func start(t *testing.T) *run {
	t.Helper()
	r := &run{
		seen:  vocabulary{},
		began: map[string]time.Time{}, ended: map[string]time.Time{}, fired: map[string]observe.Alert{},
	}
	var err error
	if r.stage, err = observe.NewStage(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon wrote:\n%s", r.stage.Output())
		}
		r.stage.Close()
	})
	text := observe.Quicken(rulesText(t), window, wait)
	if r.rules, err = observe.ReadRules(text); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r.prometheus, err = observe.Start(ctx, observe.Options{Dir: t.TempDir(), Target: r.stage.Address(), Rules: text, Interval: interval})
	switch {
	case errors.Is(err, observe.ErrNoPrometheus):
		r.prometheus = nil
	case err != nil:
		t.Fatal(err)
	default:
		t.Cleanup(r.prometheus.Close)
		r.checkQuiet(t)
	}
	return r
}

// play plays a scene until all its alerts fire; one without alerts for as long as any would take. Without a Prometheus
// it plays two moments of it.
func (r *run) play(t *testing.T, scene observe.Scene) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	r.began[scene.Name] = began
	if err := scene.Begin(ctx, r.stage); err != nil {
		t.Fatalf("%s: %v", scene.Name, err)
	}
	for moment := 1; ; moment++ {
		if err := scene.Tick(ctx, r.stage); err != nil {
			t.Fatalf("%s: %v", scene.Name, err)
		}
		if page, err := r.stage.Page(ctx); err == nil {
			r.seen.add(page)
		}
		if r.prometheus == nil {
			if moment == 2 {
				break
			}
			continue
		}
		firing := r.firing(t)
		if missing := slices.DeleteFunc(slices.Clone(scene.Alerts), func(name string) bool { return firing[name] }); len(missing) > 0 {
			if ctx.Err() != nil {
				t.Errorf("%s: %q do not fire within %s", scene.Name, missing, patience)
				break
			}
		} else if time.Since(began) > window+wait || len(scene.Alerts) > 0 {
			break
		}
		pause(ctx, interval/3)
	}
	r.ended[scene.Name] = time.Now()
	t.Logf("%s: %s", scene.Name, time.Since(began).Round(time.Millisecond))
	if err := scene.End(t.Context(), r.stage); err != nil {
		t.Fatalf("%s: %v", scene.Name, err)
	}
}

// pause keeps the polling off the processors that the daemon and Prometheus need.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (r *run) firing(t *testing.T) map[string]bool {
	t.Helper()
	alerts, err := r.prometheus.Alerts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	firing := map[string]bool{}
	for _, a := range alerts {
		if a.State == "firing" {
			firing[a.Labels["alertname"]] = true
			r.fired[a.Labels["alertname"]] = a
		}
	}
	return firing
}

// Every name, label and value of every query, and of the page that explains them, was on the daemon's own page.
func (r *run) checkNames(t *testing.T) {
	for where, expr := range queries(t) {
		for _, problem := range r.seen.problems(expr) {
			t.Errorf("%s: %s: %s", where, expr, problem)
		}
	}
	r.checkHandbook(t)
}

// Before the first scene no alert fires, and when all is mended none is left.
func (r *run) checkQuiet(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for firing := r.firing(t); len(firing) > 0; firing = r.firing(t) {
		if ctx.Err() != nil {
			t.Fatalf("still firing: %q", slices.Sorted(maps.Keys(firing)))
		}
		pause(ctx, interval/3)
	}
}

func (r *run) checkDashboard(t *testing.T, from, to time.Time) {
	dashboard := readDashboard(t)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			r.checkData(t, "panel "+panel.Title, observe.Fill(target.Expr, window), from, to)
		}
	}
}

func (r *run) checkRules(t *testing.T, from, to time.Time) {
	for _, rule := range r.rules {
		r.checkData(t, rule.Alert, rule.Expr, from, to)
	}
}

// checkData: everything happens in a run, so a query that finds nothing, or nothing but zero, asks for what is not there.
func (r *run) checkData(t *testing.T, where, expr string, from, to time.Time) {
	all, err := r.prometheus.Query(t.Context(), expr, from, to, interval)
	if err != nil {
		t.Errorf("%s: %s: %v", where, expr, err)
		return
	}
	for _, series := range all {
		for _, point := range series.Points {
			if !math.IsNaN(point.Value) && point.Value != 0 || strings.HasSuffix(expr, "== 0") {
				return
			}
		}
	}
	t.Errorf("%s: %s: nothing of it is seen in the run, %d series", where, expr, len(all))
}

// checkPhases: an alert begins to fire in its own scenes, or while their traces are still in its window, and at no other
// time; and it has waited before. Of an alert with several series the first has ended the scene.
func (r *run) checkPhases(t *testing.T, from time.Time) {
	expected := map[string][]string{} // scenes by alert
	for _, scene := range observe.Scenes() {
		for _, alert := range scene.Alerts {
			expected[alert] = append(expected[alert], scene.Name)
		}
	}
	if len(expected) != len(r.rules) {
		t.Errorf("the scenes expect %d alerts, the rules have %d", len(expected), len(r.rules))
	}
	away := r.away(t, from)
	all, err := r.prometheus.Query(t.Context(), `ALERTS{alertstate="firing"}`, from, time.Now(), interval)
	if err != nil {
		t.Fatal(err)
	}
	for _, series := range all {
		alert := series.Labels["alertname"]
		if away && slices.Contains(expected[alert], "no driver") {
			continue
		}
		var last time.Time
		for _, point := range series.Points {
			if begins := point.At.Sub(last) > 2*interval; begins && !slices.ContainsFunc(expected[alert], func(scene string) bool {
				return !point.At.Before(r.began[scene].Add(wait)) && !point.At.After(r.ended[scene].Add(window+wait+interval))
			}) {
				t.Errorf("%s fires from %s on, %s after the beginning; its scenes: %v", alert, point.At.Format(time.TimeOnly),
					point.At.Sub(from), expected[alert])
			}
			last = point.At
		}
	}
}

// away: a busy machine kept the driver from answering for so long that the alerts which say so are right.
func (r *run) away(t *testing.T, from time.Time) bool {
	t.Helper()
	all, err := r.prometheus.Query(t.Context(), "up == 0", from, r.began["no driver"], interval)
	if err != nil {
		t.Fatal(err)
	}
	missed := 0
	for _, series := range all {
		missed += len(series.Points)
	}
	if missed > 0 {
		t.Logf("the driver did not answer %d of Prometheus' questions within %s", missed, interval)
	}
	return time.Duration(missed)*interval >= wait
}

var leftOut = regexp.MustCompile(`<no value>|error expanding|%!|\bon node (is|hold|does|was)|  | \(?\)| \.`)

// checkTexts: no annotation has a hole where a label should be.
func (r *run) checkTexts(t *testing.T) {
	for name, alert := range r.fired {
		for which, text := range alert.Annotations {
			if hole := leftOut.FindString(strings.TrimSpace(text)); hole != "" {
				t.Errorf("%s: %s has a hole %q: %s", name, which, hole, text)
			}
		}
	}
}
