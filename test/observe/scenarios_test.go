package observe_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/observe"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// times are the accelerated times: window replaces the windows of the rules, wait the waits of the alerts.
type times struct {
	interval time.Duration // of scrapes and evaluations
	window   time.Duration
	wait     time.Duration
}

// timesFor returns the times of a run. Each slower one doubles them: on a busy machine a scrape takes longer than the shortest interval.
func timesFor(slower int) times {
	return times{interval: 300 * time.Millisecond << slower, window: 1800 * time.Millisecond << slower, wait: 750 * time.Millisecond << slower}
}

// slowest is the last of timesFor; its verdict counts in any case.
const slowest = 3

// run is one run of all scenarios, and its observations.
type run struct {
	times

	fixture    *observe.Fixture
	prometheus *observe.Prometheus // nil where it is not installed
	rules      []observe.Rule      // accelerated
	seen       seenMetrics
	began      map[string]time.Time // by scenario
	ended      map[string]time.Time
	fired      map[string]observe.Alert // by name: the last firing alert
	closed     sync.Once
}

// TestScenarios runs all scenarios, and checks the data of the dashboard and the alerts. A run with problems in which Prometheus missed
// scrapes proves nothing about the driver, and is repeated with longer times.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for slower := range slowest + 1 {
		r := start(t, timesFor(slower))
		from := time.Now()
		for _, scenario := range observe.Scenarios() {
			r.play(t, scenario)
		}
		problems, missed := r.problems(t, from, time.Now())
		if len(problems) > 0 && missed > 0 && slower < slowest {
			r.close(t)
			t.Logf("Prometheus missed %d scrapes of one every %s; repeated with longer times, because of: %q", missed, r.interval, problems)
			continue
		}
		t.Run("names", func(t *testing.T) { r.checkNames(t) })
		t.Run("Prometheus", func(t *testing.T) {
			if r.prometheus == nil {
				t.Skip(observe.ErrNoPrometheus)
			}
			for _, problem := range problems {
				t.Error(problem)
			}
			r.checkTexts(t)
			if !t.Failed() {
				suite.Verdict(t, "observe: %d scenarios with a real Prometheus in %s, %d alerts fired in their scenarios and in no other",
					len(r.began), time.Since(from).Round(time.Second), len(r.fired))
			}
		})
		return
	}
}

func start(t *testing.T, times times) *run {
	t.Helper()
	r := &run{
		times: times,
		seen:  seenMetrics{},
		began: map[string]time.Time{}, ended: map[string]time.Time{}, fired: map[string]observe.Alert{},
	}
	var err error
	if r.fixture, err = observe.NewFixture(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close(t) })
	text := observe.Accelerate(rulesText(t), r.window, r.wait)
	if r.rules, err = observe.ReadRules(text); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), suite.Patience)
	defer cancel()
	r.prometheus, err = observe.Start(ctx, observe.Options{Dir: t.TempDir(), Target: r.fixture.Address(), Rules: text, Interval: r.interval})
	switch {
	case errors.Is(err, observe.ErrNoPrometheus):
		r.prometheus = nil
	case err != nil:
		t.Fatal(err)
	default:
		r.checkQuiet(t)
	}
	return r
}

// close stops the driver and Prometheus; it may be called twice.
func (r *run) close(t *testing.T) {
	t.Helper()
	r.closed.Do(func() {
		if t.Failed() {
			t.Logf("the daemon wrote:\n%s", r.fixture.Output())
		}
		r.fixture.Close()
		if r.prometheus != nil {
			r.prometheus.Close()
		}
	})
}

// play runs a scenario until all its alerts fire, and one without alerts for as long as any alert takes. Without a Prometheus it makes
// two steps.
func (r *run) play(t *testing.T, scenario observe.Scenario) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suite.Patience)
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
				t.Errorf("%s: %q do not fire within %s", scenario.Name, missing, suite.Patience)
				break
			}
		} else if time.Since(began) > r.window+r.wait || len(scenario.Alerts) > 0 {
			break
		}
		pause(ctx, r.interval/3)
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
