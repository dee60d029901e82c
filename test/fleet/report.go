package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Settle is the time after which the share of refused requests counts. A fleet that starts at once cannot know its size before.
const Settle = time.Minute

// Report is what one simulation found.
type Report struct {
	Name           string
	Nodes, Objects int
	Length         time.Duration

	Counts  Count // all after Settle
	First   Count // before
	Mounts  []time.Duration
	Missing int             // volumes that were not mounted at the end
	Ages    []time.Duration // of the oldest object of a volume, at each call of the kubelet after its first mount
	Rotated []time.Duration // until a volume had the new value of an object that changed
	Waiting int             // volumes that did not have it at the end
	PerNode []float64       // answered requests
}

// Ideal is how long the vault needs for one read of each object.
func (r *Report) Ideal() time.Duration {
	perSecond := float64(r.Counts.Limit) / (r.Length - Settle).Seconds()
	return time.Duration(float64(r.Nodes*r.Objects) / perSecond * float64(time.Second))
}

// Bound is the age that no object should pass: one and a half times its fair share. No object is fetched again before the interval and
// the next call of the kubelet.
func (r *Report) Bound() time.Duration { return 3 * max(r.Ideal(), Interval+lastCall) / 2 }

// Used is the share of the limit that was used for answered requests.
func (r *Report) Used() float64 { return ratio(r.Counts.Good, r.Counts.Limit) }

// Refused is the share of 429 among all answers.
func (r *Report) Refused() float64 { return ratio(r.Counts.Refused, r.Counts.Refused+r.Counts.Good) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Jain is the fairness of Jain, Chiu and Hawe (1984): 1 if all nodes have the same, 1/n if one node has all.
func (r *Report) Jain() float64 {
	var sum, squares float64
	for _, x := range r.PerNode {
		sum, squares = sum+x, squares+x*x
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(r.PerNode)) * squares)
}

// At returns a quantile. Missing values count as larger than all others; it is then negative.
func At(values []time.Duration, missing int, q float64) time.Duration {
	slices.Sort(values)
	i := int(q * float64(len(values)+missing-1))
	if i >= len(values) || len(values) == 0 {
		return -1
	}
	return values[i]
}

// Head is the head of the table of reports.
const Head = `| fleet | req/s of limit | used | 429, 1st min | 429 after | mounted p50 | p99 | all | ideal | age p50 | p99 | max | bound | rotation p99 | Jain |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

// Row is one row of the table.
func (r *Report) Row() string {
	length := (r.Length - Settle).Seconds()
	first := &Report{Counts: r.First}
	rotation := "–" // nothing was changed
	if len(r.Rotated)+r.Waiting > 0 {
		rotation = seconds(At(r.Rotated, r.Waiting, .99))
	}
	cells := []string{
		r.Name,
		fmt.Sprintf("%.0f of %.0f", float64(r.Counts.Good)/length, float64(r.Counts.Limit)/length),
		percent(r.Used()), percent(first.Refused()), percent(r.Refused()),
		seconds(At(r.Mounts, r.Missing, .5)), seconds(At(r.Mounts, r.Missing, .99)), seconds(At(r.Mounts, r.Missing, 1)), seconds(r.Ideal()),
		seconds(At(r.Ages, 0, .5)), seconds(At(r.Ages, 0, .99)), seconds(At(r.Ages, 0, 1)), seconds(r.Bound()),
		rotation,
		fmt.Sprintf("%.3f", r.Jain()),
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "never"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
}
