// Package suite is what the long-running suites share: how long to run, and how to say what was found.
//
// Every suite runs in two lengths. The short one is part of `make test`; the long one, of `make soak`, is where the
// figures of docs/reliability.md come from. Both ask the same questions.
package suite

import (
	"fmt"
	"os"
	"testing"
)

// Variable asks for the long form of every suite when it is "1".
const Variable = "KEYVAULT_CSI_SOAK"

// Long tells whether the suites run in their long form.
func Long() bool { return os.Getenv(Variable) == "1" }

// Verdict logs what a suite did and found, as one line that `make test` and `make soak` show also when the suite passed:
//
//	suite.Verdict(t, "kill -9: %d kills, %d calls in flight, every volume whole or absent", kills, calls)
func Verdict(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("verdict: %s", fmt.Sprintf(format, args...))
}
