package suite_test

import (
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// Waiting takes no processor time, and work takes some.
func TestCPUTime(t *testing.T) {
	t.Parallel()
	const wait = 200 * time.Millisecond
	var onTheClock time.Duration
	waiting := suite.CPUTime(func() {
		began := time.Now()
		<-time.After(wait)
		onTheClock = time.Since(began)
	})
	if waiting > onTheClock/2 {
		t.Errorf("a wait of %v counts as %v", onTheClock, waiting)
	}
	working := suite.CPUTime(func() {
		if got := sum(1 << 26); got == 0 {
			t.Error("no work")
		}
	})
	if working <= 0 {
		t.Errorf("work counts as %v", working)
	}
}

func sum(n int) (total int) {
	for i := range n {
		total += i ^ total
	}
	return total
}
