// Package axis is what the programs share that draw plots for the documentation. It may not know what was measured.
package axis

import "math"

// Step is the distance between the marks of an axis from 0 to most: 1, 2 or 5 times a power of ten, so that about five of
// them reach most. It is 1 for an axis without length.
func Step(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, times := range []float64{1, 2, 5} {
		if power*times >= most/5 {
			return power * times
		}
	}
	return power * 10
}
