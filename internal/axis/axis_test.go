package axis_test

import (
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/axis"
)

func TestStep(t *testing.T) {
	t.Parallel()
	for most, want := range map[float64]float64{0: 1, 1: 0.2, 4.9: 1, 5: 1, 5.1: 2, 97: 20, 300: 100} {
		if got := axis.Step(most); got != want {
			t.Errorf("up to %g in steps of %g, want %g", most, got, want)
		}
	}
}
