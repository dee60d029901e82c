package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
)

// The default of client-go, 5 requests a second, makes the pages of a large cluster and a list of names wait. kubectl allows 50.
func TestRequestsDoNotWait(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte(`{clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], contexts: [{name: x, context: {cluster: c}}], current-context: x}`), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	connection := AddFlags(flags)
	if err := flags.Parse([]string{"--kubeconfig", config}); err != nil {
		t.Fatal(err)
	}
	c, err := connection.Connect()
	if err != nil {
		t.Fatal(err)
	}
	if qps := c.rest.GetRateLimiter().QPS(); qps != 50 {
		t.Errorf("%v requests a second, want 50", qps)
	}
}
