// Package suite is what the test suites with a long form share: how much to do, and how to report what was found.
//
// Every such suite has two forms that ask the same questions. The short one is part of `make test`. The long one is part of
// `make test-long`, where the figures of docs/reliability.md come from.
package suite

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// Variable selects the long form of every suite when it is "1".
const Variable = "KEYVAULT_CSI_LONG"

// Long reports whether the suites run in their long form.
func Long() bool { return os.Getenv(Variable) == "1" }

// Rounds is how often a test repeats something: short times, or long times in the long form.
func Rounds(short, long int) int {
	if Long() {
		return long
	}
	return short
}

// StepsVariable selects a part of the steps for tests that interrupt a call at each of its system calls: "2/3" is every third step from the
// second on. Emulated machines are slow, so each of the kernels takes another part.
const StepsVariable = "KEYVAULT_CSI_STEPS"

// Steps are the first step and the distance of the next ones: 1 and 1 unless StepsVariable says otherwise.
func Steps(t testing.TB) (first, distance int) {
	t.Helper()
	value := os.Getenv(StepsVariable)
	if value == "" {
		return 1, 1
	}
	if _, err := fmt.Sscanf(value, "%d/%d", &first, &distance); err != nil || first < 1 || first > distance {
		t.Fatalf("%s is %q, want for example 2/3", StepsVariable, value)
	}
	return first, distance
}

// Verdict logs in one line what a suite did and found. `make test` prints the line also when the suite has passed:
//
//	suite.Verdict(t, "kill -9: %d kills, %d calls in flight, every volume whole or absent", kills, calls)
func Verdict(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("verdict: %s", fmt.Sprintf(format, args...))
}

// Patience ends a test that would hang. It is for waiting only, and no verdict may depend on it: even on a busy machine, what a test
// waits for takes a small part of this time.
const Patience = 5 * time.Minute

// Context is the context of the test, which also ends when the test hangs.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Eventually polls until the condition holds, and ends the test if it never does.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(Patience); !condition(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
