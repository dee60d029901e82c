package azure

import (
	"testing"
	"testing/synctest"
	"time"
)

// Answers of one namespace wait only for each other, and for at most a second for one that stalls.
func TestMemoryOfANamespace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory := NewMemory()
		call := func(namespace string) (*callMemory, func()) {
			ctx, end := memory.Call(WithNamespace(t.Context(), namespace))
			return callMemoryOf(ctx), end
		}
		reserve := func(m *callMemory, bytes int64) time.Duration {
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
			of    *callMemory
			bytes int64
			wait  time.Duration
		}{
			{"all that there is, and more", large, 10 * namespaceBytes, 0},
			{"one of another namespace", other, -1, 0},
			{"one that has to wait for the stalled", small, 1, stalledAnswer},
			{"the same call tries again", small, namespaceBytes, 0},
			{"one of unknown length that has to wait for it", large, -1, stalledAnswer},
		} {
			if waited := reserve(step.of, step.bytes); waited != step.wait {
				t.Errorf("%s: waited %v, want %v", step.what, waited, step.wait)
			}
		}
		for _, end := range []func(){endLarge, endSmall, endOther} {
			end()
		}
		if len(memory.namespaces) != 0 {
			t.Errorf("left behind: %v", memory.namespaces)
		}
	})
}

// A shared call does not count for the namespace of its caller.
func TestWithoutMemory(t *testing.T) {
	t.Parallel()
	ctx, end := NewMemory().Call(WithNamespace(t.Context(), "shop"))
	defer end()
	if callMemoryOf(ctx) == nil || callMemoryOf(WithoutMemory(ctx)) != nil {
		t.Error("want memory of the call, and none of a call inside that is shared")
	}
}
