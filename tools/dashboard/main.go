// Command dashboard checks a dashboard with Grafana's own types: every field must be one that Grafana knows for this kind of panel and
// query, with a value of its type, and must keep Grafana's constraints.
//
//	dashboard FILE
//
// It knows nothing of what the queries ask; test/observe checks that with a Prometheus.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboard FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func check(file string) error {
	text, err := os.ReadFile(file) //nolint:gosec // G304: the file to check
	if err != nil {
		return err
	}
	plugins.RegisterDefaultPlugins()
	var d dashboard.Dashboard    //nolint:staticcheck // SA1019: the sidecar and the import of Grafana read this format, not yet version 2
	var problems cog.BuildErrors // an empty list is an error that is not nil
	if err := d.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &problems) || len(problems) > 0) {
		return fmt.Errorf("not as Grafana writes it: %w", err)
	}
	if len(d.Panels) == 0 {
		return errors.New("no panels")
	}
	return d.Validate()
}
