package keyvault

import (
	"testing"
	"testing/synctest"
	"time"
)

// Answers of one namespace wait for each other and not for those of another; one that stalls is waited for a second.
func TestAnswersOnTheirWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := newAnswers()
		call := func(namespace string) (*answerMemory, func()) {
			ctx, end := all.call(withNamespace(t.Context(), namespace))
			return answerMemoryOf(ctx), end
		}
		reserve := func(m *answerMemory, bytes int64) time.Duration {
			t.Helper()
			began := time.Now()
			if err := m.reserve(t.Context(), bytes); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		large, endLarge := call("shop")
		small, endSmall := call("shop")
		other, endOther := call("other")
		for _, step := range []struct {
			what  string
			of    *answerMemory
			bytes int64
			wait  time.Duration
		}{
			{"all that there is, and more", large, 10 * answerBytes, 0},
			{"one of another namespace", other, -1, 0},
			{"one that has to wait for the stalled", small, 1, stalledAnswer},
			{"the same call tries again", small, answerBytes, 0},
		} {
			if got := reserve(step.of, step.bytes); got != step.wait {
				t.Errorf("%s: waited %v, want %v", step.what, got, step.wait)
			}
		}
		// Of those that become longer than was known, one at a time.
		if err := large.grow(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := small.grow(t.Context(), answerBytes+1); err != nil || time.Since(began) != stalledAnswer {
			t.Errorf("waited %v for the other that is long, %v", time.Since(began), err)
		}
		for _, end := range []func(){endLarge, endSmall, endOther} {
			end()
		}
		if len(all.namespaces) != 0 {
			t.Errorf("left behind: %v", all.namespaces)
		}
	})
}
