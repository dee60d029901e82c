package soak_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// report checks growth, logs the counts, and writes both with the plots.
func report(t *testing.T, f form, nodes []*testNode, took, cpu time.Duration) {
	folder := os.Getenv(folderVariable)
	if folder == "" {
		folder = t.TempDir()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Soak\n\n%s, %s: two nodes, each with its daemon and its own cloud of four vaults. "+
		"The kubelets call every %s, rotationInterval is %s; faults for %s, then none for %s.\n",
		time.Now().UTC().Format("2006-01-02 15:04 MST"), took.Round(time.Second), f.period, interval, f.faulty, f.calm)
	for _, s := range nodes {
		s.report(&text, f)
	}
	verdict := fmt.Sprintf("processor: %.0f %% of one core, all daemons, clouds and kubelets together", 100*cpu.Seconds()/took.Seconds())
	suite.Verdict(t, "soak: %s", verdict)
	fmt.Fprintf(&text, "\n%s.\n", verdict)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "soak.md"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range plots(nodes, f.bound) {
		if err := p.write(folder); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *testNode) report(text *strings.Builder, f form) {
	rows := [][2]string{
		{"volumes at the same time", fmt.Sprint(len(s.slots))},
		{"volumes published, and removed", fmt.Sprintf("%d, %d", s.published.Load(), s.removed.Load())},
		{"republishes", fmt.Sprint(s.refreshed.Load())},
		{"values changed in the vaults", fmt.Sprint(s.changed())},
		{"updates seen in volumes", fmt.Sprint(len(s.updates))},
		{"phases with faults, faults", fmt.Sprintf("%d, %d of %d kinds", s.faultCount, sum64(s.faults), len(s.faults))},
		{"first publishes refused with a fault", fmt.Sprint(s.refused.Load())},
		{"kill -9, with calls under way", fmt.Sprintf("%d, %d", s.killCount, s.caught.Load())},
		{"targets looked at after a kill", fmt.Sprint(s.afterKill.Load())},
		{"looks at volumes, sets read whole", fmt.Sprintf("%d, %d", s.looks.Load(), s.sets.Load())},
		{"broken promises", fmt.Sprint(s.problems)},
	}
	calm, after := s.delays(false), s.delays(true)
	rows = append(rows,
		[2]string{"update seen after (median, 95 %, worst)", spread(calm)},
		[2]string{"update seen after the last fault (median, 95 %, worst)", spread(after)},
		[2]string{"every volume shows the newest of everything, after the last change", fmt.Sprintf("%.1f s", s.settled.Seconds())},
	)
	var flat []string
	for _, q := range quantities() {
		row := s.flat(q, f)
		rows = append(rows, [2]string{q.name, row})
		flat = append(flat, q.name+" "+row)
	}
	fmt.Fprintf(text, "\n## The node %q\n\n| | |\n| --- | --- |\n", s.name)
	for _, row := range rows {
		fmt.Fprintf(text, "| %s | %s |\n", row[0], row[1])
	}
	fmt.Fprintf(text, "\nFaults: %s.\n", s.faultNames())
	suite.Verdict(s.t, "soak %s: %d volumes at a time, %d published, %d republishes, %d kills (%d calls in flight, %d targets checked), %d faults, %d complete sets read: %d broken promises",
		s.name, len(s.slots), s.published.Load(), s.refreshed.Load(), s.killCount, s.caught.Load(), s.afterKill.Load(), sum64(s.faults), s.sets.Load(), s.problems)
	suite.Verdict(s.t, "soak %s: updates seen after %s (median, 95 %%, worst); after the last fault %s; all of them %.1f s after the very last change; promised: %s",
		s.name, spread(calm), spread(after), s.settled.Seconds(), f.bound)
	suite.Verdict(s.t, "soak %s: %s", s.name, strings.Join(flat, "; "))
}

// flat describes a quantity, and reports it if it grew: over the time of one daemon, or from one killed daemon to the next. In the short
// form only the difference at the end counts.
func (s *testNode) flat(q quantity, f form) string {
	if len(s.samples) == 0 {
		s.problem("no sample was taken")
		return "-"
	}
	began := s.samples[0].at
	points, over, limit := s.points(q, began), "over the time", q.most
	if s.killCount > 0 { // one value for each minute: fewer, with more variation
		points, over, limit = s.lastOfEach(q), fmt.Sprintf("over %d lives", s.killCount), 2*q.most
	}
	rise := trend(points)
	if !f.aged && rise > limit {
		s.problem("%s rose by %.1f %s %s; flat would be at most %g", q.name, rise, q.unit, over, limit)
	}
	if more := q.of(s.last) - q.of(s.first); more > q.left {
		s.problem("%s: %.4g %s more when all volumes were gone than before the first, at most %g were expected", q.name, more, q.unit, q.left)
	}
	most := q.of(slices.MaxFunc(s.samples, func(a, b sampled) int { return cmp.Compare(q.of(a), q.of(b)) }))
	return fmt.Sprintf("%.4g at the start, %.4g at most, %.4g at the end, trend %+.2f %s", q.of(s.first), most, q.of(s.last), rise, over)
}

func (s *testNode) changed() (n int) {
	for _, b := range s.histories {
		n += b.changes()
	}
	return n
}

func (s *testNode) delays(after bool) (delays []time.Duration) {
	for _, u := range s.updates {
		if u.after == after {
			delays = append(delays, u.delay)
		}
	}
	slices.Sort(delays)
	return delays
}

func spread(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "none"
	}
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1))].Seconds() }
	return fmt.Sprintf("%.1f, %.1f, %.1f s of %d", at(.5), at(.95), at(1), len(sorted))
}

func sum64(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func (s *testNode) faultNames() string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		names = append(names, fmt.Sprintf("%s (%d)", name, s.faults[name]))
	}
	return strings.Join(names, ", ")
}

func plots(nodes []*testNode, bound time.Duration) (all []plot) {
	for _, q := range quantities() {
		p := plot{file: "soak-" + q.file, title: "Soak: " + q.name + " of the daemon", y: q.unit}
		of := q.of
		if q.file == "mounts" {
			p.title, of = "Soak: mounts on the node", func(s sampled) float64 { return s.mounts }
		}
		for _, s := range nodes {
			l := line{name: s.title()}
			for _, sample := range s.samples {
				l.points = append(l.points, [2]float64{sample.at.Sub(s.samples[0].at).Minutes(), of(sample)})
			}
			p.lines = append(p.lines, l)
		}
		all = append(all, p)
	}
	return append(all, delayPlot("soak-delays", "Soak: until an update is seen, the worst of each half minute", nodes, bound))
}

func delayPlot(file, title string, nodes []*testNode, bound time.Duration) plot {
	last := 0.0
	p := plot{file: file, title: title, y: "s"}
	for _, s := range nodes {
		worst := map[int]float64{}
		for _, u := range s.updates {
			at := int(u.at.Sub(s.samples[0].at) / (30 * time.Second))
			worst[at] = max(worst[at], u.delay.Seconds())
		}
		l := line{name: s.title()}
		for _, at := range slices.Sorted(maps.Keys(worst)) {
			l.points = append(l.points, [2]float64{float64(at) / 2, worst[at]})
			last = max(last, float64(at)/2)
		}
		p.lines = append(p.lines, l)
	}
	p.lines = append(p.lines, line{"promised", [][2]float64{{0, bound.Seconds()}, {last, bound.Seconds()}}})
	return p
}

func (s *testNode) title() string {
	if s.killCount > 0 {
		return fmt.Sprintf("%d volumes, killed %d times", len(s.slots), s.killCount)
	}
	return fmt.Sprintf("%d volumes, never killed", len(s.slots))
}
