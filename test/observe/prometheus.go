package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// ErrNoPrometheus means that the program is not installed.
var ErrNoPrometheus = errors.New("there is no prometheus on the PATH (apt-get install prometheus)")

// The labels of targets of the chart's monitors.
const (
	Job       = "keyvault-csi/keyvault-csi" // of a PodMonitor
	Namespace = "keyvault-csi"
	Pod       = "keyvault-csi-x7k2p"
	NodeName  = "node-1"
)

// Options configure a Prometheus.
type Options struct {
	Dir      string // for its data and its configuration
	Target   string // host and port of the driver
	Rules    string // text of the rules file
	Interval time.Duration
}

// Prometheus is a running Prometheus.
type Prometheus struct {
	URL string

	process *exec.Cmd
	output  bytes.Buffer
	exited  chan struct{}
}

// Start starts a Prometheus that reads the driver's metrics and evaluates the rules in the same interval. It returns after the first
// read.
func Start(ctx context.Context, o Options) (p *Prometheus, err error) {
	for range 5 { // another process may have taken the address meanwhile
		if p, err = start(ctx, o); err == nil || !strings.Contains(err.Error(), "address already in use") {
			return p, err
		}
	}
	return nil, err
}

func start(ctx context.Context, o Options) (*Prometheus, error) {
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, ErrNoPrometheus
	}
	config := fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}
rule_files: [rules.yaml]
scrape_configs:
- job_name: %[2]s
  static_configs:
  - targets: [%[3]q]
    labels: {namespace: %[4]s, pod: %[5]s, node: %[6]s}
`, seconds(o.Interval), Job, o.Target, Namespace, Pod, NodeName)
	for name, text := range map[string]string{"prometheus.yaml": config, "rules.yaml": o.Rules} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	address, err := node.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := &Prometheus{URL: "http://" + address, exited: make(chan struct{})}
	p.process = exec.Command(binary, //nolint:gosec,noctx // G204: found on the PATH; it outlives ctx
		"--config.file="+filepath.Join(o.Dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(o.Dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	p.process.Dir = o.Dir
	p.process.Stdout, p.process.Stderr = &p.output, &p.output
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.process.Wait()
		close(p.exited)
	}()
	for {
		select {
		case <-p.exited:
			return nil, fmt.Errorf("prometheus has ended: %s: %s", p.process.ProcessState, p.output.Bytes())
		case <-ctx.Done():
			p.Close()
			return nil, fmt.Errorf("prometheus is not ready: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
		var answer struct{ Result []json.RawMessage }
		if p.get(ctx, "/api/v1/query?query=keyvault_csi_build_info", &answer) == nil && len(answer.Result) > 0 {
			return p, nil
		}
	}
}

// Close stops it.
func (p *Prometheus) Close() {
	_ = p.process.Process.Signal(syscall.SIGTERM)
	<-p.exited
}

// Series is one line of a graph.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Point is one value of a series.
type Point struct {
	At    time.Time
	Value float64
}

// UnmarshalJSON parses Prometheus' pair of a time and a text.
func (p *Point) UnmarshalJSON(text []byte) error {
	var at float64
	var value string
	if err := json.Unmarshal(text, &[2]any{&at, &value}); err != nil {
		return err
	}
	p.At = time.UnixMilli(int64(at * 1000))
	var err error
	p.Value, err = strconv.ParseFloat(value, 64)
	return err
}

// Query evaluates a range query. The error of an invalid query is Prometheus' text.
func (p *Prometheus) Query(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	var answer struct {
		Result []struct {
			Metric map[string]string
			Values []Point
		}
	}
	err := p.get(ctx, "/api/v1/query_range?"+url.Values{
		"query": {expr},
		"start": {from.UTC().Format(time.RFC3339Nano)},
		"end":   {to.UTC().Format(time.RFC3339Nano)},
		"step":  {seconds(step)},
	}.Encode(), &answer)
	var all []Series
	for _, r := range answer.Result {
		all = append(all, Series{r.Metric, r.Values})
	}
	return all, err
}

// Alert is an active alert.
type Alert struct {
	Labels, Annotations map[string]string
	State               string // "pending" or "firing"
}

// Alerts returns the active alerts.
func (p *Prometheus) Alerts(ctx context.Context) ([]Alert, error) {
	var answer struct{ Alerts []Alert }
	err := p.get(ctx, "/api/v1/alerts", &answer)
	return answer.Alerts, err
}

func (p *Prometheus) get(ctx context.Context, path string, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("prometheus: %s", answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}
