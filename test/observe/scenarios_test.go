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

// The accelerated times: window replaces the windows of the rules, wait the waits of the alerts.
const (
	interval = 300 * time.Millisecond // of scrapes and evaluations
	window   = 1800 * time.Millisecond
	wait     = 750 * time.Millisecond
	deadline = 2 * time.Minute // for an alert to fire or to end, on a busy machine
)

// run is one run of all scenarios, and its observations.
type run struct {
	fixture    *observe.Fixture
	prometheus *observe.Prometheus // nil where it is not installed
	rules      []observe.Rule      // accelerated
	seen       seenMetrics
	began      map[string]time.Time // by scenario
	ended      map[string]time.Time
	fired      map[string]observe.Alert // by name: the last firing alert
}

// TestScenarios runs all scenarios, and checks the data of the dashboard and the alerts.
func TestScenarios(t *testing.T) {
	t.Parallel()
	r := start(t)
	from := time.Now()
	for _, scenario := range observe.Scenarios() {
		r.play(t, scenario)
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
			suite.Verdict(t, "observe: %d scenarios with a real Prometheus in %s, %d alerts fired in their scenarios and in no other",
				len(r.began), to.Sub(from).Round(time.Second), len(r.fired))
		}
	})
}

func start(t *testing.T) *run {
	t.Helper()
	r := &run{
		seen:  seenMetrics{},
		began: map[string]time.Time{}, ended: map[string]time.Time{}, fired: map[string]observe.Alert{},
	}
	var err error
	if r.fixture, err = observe.NewFixture(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon wrote:\n%s", r.fixture.Output())
		}
		r.fixture.Close()
	})
	text := observe.Accelerate(rulesText(t), window, wait)
	if r.rules, err = observe.ReadRules(text); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	r.prometheus, err = observe.Start(ctx, observe.Options{Dir: t.TempDir(), Target: r.fixture.Address(), Rules: text, Interval: interval})
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

// play runs a scenario until all its alerts fire, and one without alerts for as long as any alert takes. Without a Prometheus it makes
// two steps.
func (r *run) play(t *testing.T, scenario observe.Scenario) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began := time.Now()
	r.began[scenario.Name] = began
	if err := scenario.Begin(ctx, r.fixture); err != nil {
		t.Fatalf("%s: %v", scenario.Name, err)
	}
	for step := 1; ; step++ {
		if err := scenario.Tick(ctx, r.fixture); err != nil {
			t.Fatalf("%s: %v", scenario.Name, err)
		}
		if page, err := r.fixture.Page(ctx); err == nil {
			r.seen.add(page)
		}
		if r.prometheus == nil {
			if step == 2 {
				break
			}
			continue
		}
		firing := r.firing(t)
		if missing := slices.DeleteFunc(slices.Clone(scenario.Alerts), func(name string) bool { return firing[name] }); len(missing) > 0 {
			if ctx.Err() != nil {
				t.Errorf("%s: %q do not fire within %s", scenario.Name, missing, deadline)
				break
			}
		} else if time.Since(began) > window+wait || len(scenario.Alerts) > 0 {
			break
		}
		pause(ctx, interval/3)
	}
	r.ended[scenario.Name] = time.Now()
	t.Logf("%s: %s", scenario.Name, time.Since(began).Round(time.Millisecond))
	if err := scenario.End(t.Context(), r.fixture); err != nil {
		t.Fatalf("%s: %v", scenario.Name, err)
	}
}

// pause leaves the CPUs to the daemon and Prometheus between two polls.
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

// checkNames checks that every name, label and value of every query, and of docs/observability.md, was among the daemon's metrics.
func (r *run) checkNames(t *testing.T) {
	for where, expr := range queries(t) {
		for _, problem := range r.seen.problems(expr) {
			t.Errorf("%s: %s: %s", where, expr, problem)
		}
	}
	r.checkHandbook(t)
}

// checkQuiet checks that no alert fires before the first scenario and after the last.
func (r *run) checkQuiet(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
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

// checkData checks that a query has a result other than zero in the run, which has all scenarios.
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
	t.Errorf("%s: %s: no value but zero in the run, %d series", where, expr, len(all))
}

// checkPhases checks that an alert begins to fire in its scenarios, after its wait, or while they are in its window, and at no other time.
// With several series, a scenario ends with the first.
func (r *run) checkPhases(t *testing.T, from time.Time) {
	expected := map[string][]string{} // scenarios by alert
	for _, scenario := range observe.Scenarios() {
		for _, alert := range scenario.Alerts {
			expected[alert] = append(expected[alert], scenario.Name)
		}
	}
	if len(expected) != len(r.rules) {
		t.Errorf("the scenarios expect %d alerts, the rules have %d", len(expected), len(r.rules))
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
			if begins := point.At.Sub(last) > 2*interval; begins && !slices.ContainsFunc(expected[alert], func(scenario string) bool {
				return !point.At.Before(r.began[scenario].Add(wait)) && !point.At.After(r.ended[scenario].Add(window+wait+interval))
			}) {
				t.Errorf("%s fires from %s, %s after the beginning; its scenarios: %v", alert, point.At.Format(time.TimeOnly),
					point.At.Sub(from), expected[alert])
			}
			last = point.At
		}
	}
}

// away reports whether, on a busy machine, the driver did not answer for so long that the alerts about that were right.
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

// checkTexts checks that no annotation has an empty label.
func (r *run) checkTexts(t *testing.T) {
	for name, alert := range r.fired {
		for which, text := range alert.Annotations {
			if hole := leftOut.FindString(strings.TrimSpace(text)); hole != "" {
				t.Errorf("%s: %s has an empty label at %q: %s", name, which, hole, text)
			}
		}
	}
}
