package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// samples are durations of one step.
type samples []time.Duration

// quantile is the smallest sample that is not exceeded by the part q (0 to 1) of all; 0 without samples.
func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(q * float64(len(sorted)))
	if float64(rank) < q*float64(len(sorted)) {
		rank++
	}
	return sorted[min(max(rank-1, 0), len(sorted)-1)]
}

func (s samples) median() time.Duration { return s.quantile(0.5) }

// plus adds samples of the same rounds.
func (s samples) plus(other samples) samples {
	sum := make(samples, len(s))
	for i := range s {
		sum[i] = s[i] + other[i]
	}
	return sum
}

// step is one measured operation.
type step func(ctx context.Context) error

// alternate runs all steps once in each round and measures each, so that a disturbance of the machine affects all of them. A tenth of the
// rounds is added before them as warm-up.
func alternate(ctx context.Context, rounds int, steps ...step) ([]samples, error) {
	all := make([]samples, len(steps))
	for round := -(rounds + 9) / 10; round < rounds; round++ {
		for i, step := range steps {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			started := time.Now()
			if err := step(ctx); err != nil {
				return nil, err
			}
			if round >= 0 {
				all[i] = append(all[i], time.Since(started))
			}
		}
	}
	return all, nil
}

// ms formats a duration in milliseconds, with three significant digits.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

func ratio(a, b time.Duration) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// three are the quantiles of a latency.
func (s samples) three() []string {
	return []string{ms(s.median()), ms(s.quantile(0.95)), ms(s.quantile(0.99))}
}
