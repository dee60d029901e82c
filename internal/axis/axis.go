// Package axis divides the axes of the plots in the documentation. It must not depend on what was measured.
package axis

import "math"

// Step returns the distance between the marks of an axis from 0 to most: 1, 2 or 5 times a power of ten, for about five
// marks. It is 1 if most is not positive.
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
