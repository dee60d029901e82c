package observe_test

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/observe"
)

// problems judges the run by what Prometheus has stored. missed counts the scrapes that the driver did not answer in time while it ran.
func (r *run) problems(t *testing.T, from, to time.Time) (problems []string, missed int) {
	t.Helper()
	if r.prometheus == nil {
		return nil, 0
	}
	r.checkQuiet(t)
	problems = slices.Concat(r.checkDashboard(t, from, to), r.checkRules(t, from, to), r.checkPhases(t, from))
	return problems, r.missed(t, from)
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
	ctx := suite.Context(t)
	for firing := r.firing(t); len(firing) > 0; firing = r.firing(t) {
		if ctx.Err() != nil {
			t.Fatalf("still firing: %q", slices.Sorted(maps.Keys(firing)))
		}
		pause(ctx, r.interval/3)
	}
}

func (r *run) checkDashboard(t *testing.T, from, to time.Time) (problems []string) {
	t.Helper()
	dashboard := readDashboard(t)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			problems = append(problems, r.checkData(t, "panel "+panel.Title, observe.Fill(target.Expr, r.window), from, to)...)
		}
	}
	return problems
}

func (r *run) checkRules(t *testing.T, from, to time.Time) (problems []string) {
	t.Helper()
	for _, rule := range r.rules {
		problems = append(problems, r.checkData(t, rule.Alert, rule.Expr, from, to)...)
	}
	return problems
}

// checkData checks that a query has a result other than zero in the run, which has all scenarios.
func (r *run) checkData(t *testing.T, where, expr string, from, to time.Time) (problems []string) {
	t.Helper()
	all, err := r.prometheus.Query(t.Context(), expr, from, to, r.interval)
	if err != nil {
		t.Fatalf("%s: %s: %v", where, expr, err)
	}
	for _, series := range all {
		for _, point := range series.Points {
			if !math.IsNaN(point.Value) && point.Value != 0 || strings.HasSuffix(expr, "== 0") {
				return nil
			}
		}
	}
	return []string{fmt.Sprintf("%s: %s: no value but zero in the run, %d series", where, expr, len(all))}
}

// checkPhases checks that an alert begins to fire in its scenarios, after its wait, or while they are in its window, and at no other time.
// With several series, a scenario ends with the first.
func (r *run) checkPhases(t *testing.T, from time.Time) (problems []string) {
	t.Helper()
	expected := map[string][]string{} // scenarios by alert
	for _, scenario := range observe.Scenarios() {
		for _, alert := range scenario.Alerts {
			expected[alert] = append(expected[alert], scenario.Name)
		}
	}
	if len(expected) != len(r.rules) {
		t.Errorf("the scenarios expect %d alerts, the rules have %d", len(expected), len(r.rules))
	}
	all, err := r.prometheus.Query(t.Context(), `ALERTS{alertstate="firing"}`, from, time.Now(), r.interval)
	if err != nil {
		t.Fatal(err)
	}
	for _, series := range all {
		alert := series.Labels["alertname"]
		var last time.Time
		for _, point := range series.Points {
			if begins := point.At.Sub(last) > 2*r.interval; begins && !slices.ContainsFunc(expected[alert], func(scenario string) bool {
				return !point.At.Before(r.began[scenario].Add(r.wait)) && !point.At.After(r.ended[scenario].Add(r.window+r.wait+r.interval))
			}) {
				problems = append(problems, fmt.Sprintf("%s fires from %s, %s after the beginning; its scenarios: %v",
					alert, point.At.Format(time.TimeOnly), point.At.Sub(from), expected[alert]))
			}
			last = point.At
		}
	}
	return problems
}

// missed counts the scrapes that the driver did not answer within the interval, before the scenario that stops it.
func (r *run) missed(t *testing.T, from time.Time) int {
	t.Helper()
	all, err := r.prometheus.Query(t.Context(), "up == 0", from, r.began["no driver"], r.interval)
	if err != nil {
		t.Fatal(err)
	}
	missed := 0
	for _, series := range all {
		missed += len(series.Points)
	}
	return missed
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
