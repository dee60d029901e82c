// Command pictures makes the pictures of docs/observability.md. It runs a rotation, a throttling and an outage on a node thirty times as
// fast as in a cluster, with a real Prometheus, and takes screenshots of Prometheus' graphs.
//
// It needs prometheus and chromium on the PATH, and root or a user who may make user namespaces. docs/observability.md has the command.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/test/observe"
)

func main() { os.Exit(mountns.Main(program{})) }

// program is the part that runs in a mount namespace.
type program struct{}

// Run is the program.
func (program) Run() int {
	folder := flag.String("out", "docs/observability", "folder for the pictures")
	flag.Parse()
	if err := run(context.Background(), *folder); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		return 1
	}
	return 0
}

// picture is one graph.
type picture struct {
	file, expr string
	stacked    bool
}

// The windows are accelerated too.
var pictures = []picture{
	{"refreshes", `sum by (result) (rate(keyvault_csi_rotations_total[5s]))`, false},
	{"requests", `sum by (code) (rate(keyvault_csi_vault_requests_total{kind!="challenge"}[5s]))`, false},
	{"volumes", `sum by (state) (keyvault_csi_volumes)`, false},
	{"cache", `sum by (result) (rate(keyvault_csi_cache_requests_total[5s]))`, false},
	{"alerts", `sum by (alertname) (ALERTS{alertstate="firing"})`, true},
}

func run(ctx context.Context, folder string) error {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return fmt.Errorf("there is no chromium on the PATH (apt-get install chromium): %w", err)
	}
	dir, err := os.MkdirTemp("", "pictures")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := newScenario(ctx)
	if err != nil {
		return err
	}
	defer d.node.Close()
	rules, err := os.ReadFile("charts/keyvault-csi/rules/alerts.yaml")
	if err != nil {
		return err
	}
	prometheus, err := observe.Start(ctx, observe.Options{
		Dir: dir, Target: d.address(), Interval: time.Second, Rules: observe.Accelerate(string(rules), 20*time.Second, 6*time.Second),
	})
	if err != nil {
		return err
	}
	defer prometheus.Close()
	// The page's graphs end at a full minute.
	wait(ctx, time.Until(time.Now().Add(length+time.Minute).Truncate(time.Minute).Add(-length)))
	if err := d.play(ctx); err != nil {
		return err
	}
	camera := camera{chromium, prometheus.URL, dir, time.Now().Round(time.Minute)}
	for _, p := range pictures {
		file, err := camera.shoot(ctx, p)
		if err != nil {
			return err
		}
		if err := shrink(file, filepath.Join(folder, p.file+".png")); err != nil {
			return err
		}
	}
	return nil
}

// camera takes screenshots of Prometheus' page.
type camera struct {
	chromium, prometheus, dir string
	end                       time.Time // of every graph
}

func (c camera) shoot(ctx context.Context, p picture) (file string, err error) {
	stacked := "0"
	if p.stacked {
		stacked = "1"
	}
	page := c.prometheus + "/graph?" + url.Values{
		"g0.expr": {p.expr}, "g0.tab": {"0"}, "g0.stacked": {stacked}, "g0.step_input": {"1"},
		"g0.range_input": {fmt.Sprintf("%ds", int(length.Seconds()))},
		"g0.end_input":   {c.end.UTC().Format(time.DateTime)},
	}.Encode()
	file = filepath.Join(c.dir, p.file+".png")
	shot := exec.CommandContext(ctx, c.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", //nolint:gosec // G204: found on the PATH
		"--user-data-dir="+filepath.Join(c.dir, "chromium"), "--window-size=900,1000", "--virtual-time-budget=8000",
		"--screenshot="+file, page)
	shot.Env = append(os.Environ(), "TZ=UTC")
	if out, err := shot.CombinedOutput(); err != nil {
		return "", fmt.Errorf("chromium: %w: %s", err, out)
	}
	return file, nil
}
