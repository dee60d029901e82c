package main

import (
	"bytes"
	"context"
	"net/http"
	"testing"
)

// An interrupted command prints no partial answer, and no exit code that says that all is well.
func TestInterruptedCommand(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"status", "fresh-6c9f7b-x2x4z"}, {"explain", "fresh-6c9f7b-x2x4z"}} {
		ctx, interrupt := context.WithCancel(t.Context())
		f := newShop(t)
		f.ports["keyvault-csi/driver-1"] = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { interrupt() })
		f.denied = func(_, what, _ string) bool {
			if what == "events" && args[0] == "explain" {
				interrupt()
			}
			return false
		}
		var out, err bytes.Buffer
		code := run(ctx, "kubectl kvcsi", append(args, "--kubeconfig", f.start(t)), nil, &out, &err)
		if want := "kubectl kvcsi " + args[0] + ": interrupted\n"; code != 1 || out.String() != "" || err.String() != want {
			t.Errorf("%q: exit %d, stderr %q, want %q\n%s", args, code, &err, want, &out)
		}
	}
}
