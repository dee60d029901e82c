// Package observe tests the dashboard and the alerts of the chart: a real Prometheus reads the metrics of a real daemon during a number of
// scenarios.
//
// Every query of the dashboard must return data, and every alert must fire in its scenarios and at no other time. The program in the
// folder pictures makes the pictures of docs/observability.md from a slower run.
package observe

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Paths in the chart, relative to a folder below test.
const (
	RulesFile     = "../../charts/keyvault-csi/rules/alerts.yaml"
	DashboardFile = "../../charts/keyvault-csi/dashboards/keyvault-csi.json"
)

// Rule is one alert.
type Rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// ReadRules parses a Prometheus rules file.
func ReadRules(text string) ([]Rule, error) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []Rule
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, err
	}
	var rules []Rule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules, nil
}

var (
	windowText = regexp.MustCompile(`\[[0-9]+[smhd]\]`)
	waitText   = regexp.MustCompile(`(?m)^( +for: )[0-9]+[smhd]$`)
)

// Accelerate replaces the windows of all queries in a text, and the wait of alerts before they fire, so that hours of a cluster become
// seconds of a test.
func Accelerate(text string, window, wait time.Duration) string {
	text = windowText.ReplaceAllLiteralString(text, "["+seconds(window)+"]")
	return waitText.ReplaceAllString(text, "${1}"+seconds(wait))
}

// seconds formats a duration for Prometheus.
func seconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// Dashboard is the checked part of a Grafana dashboard.
type Dashboard struct {
	ID         *int
	UID, Title string
	Panels     []Panel
	Templating struct{ List []Variable }
}

// Variable is a variable of a dashboard.
type Variable struct {
	Name, Type, AllValue, Definition string
	Datasource                       *Datasource
}

// Datasource is the Prometheus of a query.
type Datasource struct{ Type, UID string }

// Panel is one panel of a dashboard.
type Panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	Datasource               *Datasource
	Targets                  []Target
}

// Target is one query of a panel.
type Target struct {
	RefID, Expr, LegendFormat string
	Datasource                *Datasource
	Instant                   bool
}

// ReadDashboard reads the chart's dashboard.
func ReadDashboard() (d Dashboard, err error) {
	text, err := os.ReadFile(DashboardFile)
	if err != nil {
		return d, err
	}
	err = json.Unmarshal(text, &d)
	return d, err
}

// Fill replaces the variables of a query as Grafana does with all nodes selected.
func Fill(expr string, window time.Duration) string {
	return strings.NewReplacer("$__rate_interval", seconds(window), "$__range", seconds(window), "$node", ".*").Replace(expr)
}
