package observe_test

import (
	"iter"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/test/observe"
)

const (
	runbook  = "https://github.com/keyvault-csi/keyvault-csi/blob/main/docs/troubleshooting.md#"
	handbook = "../../docs/observability.md"
)

func rulesText(t *testing.T) string { return read(t, observe.RulesFile) }

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readRules(t *testing.T) []observe.Rule {
	t.Helper()
	rules, err := observe.ReadRules(rulesText(t))
	if err != nil || len(rules) == 0 {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	return rules
}

func readDashboard(t *testing.T) observe.Dashboard {
	t.Helper()
	dashboard, err := observe.ReadDashboard()
	if err != nil {
		t.Fatal(err)
	}
	return dashboard
}

// queries are all queries of the dashboard and the rules, by their location.
func queries(t *testing.T) iter.Seq2[string, string] {
	t.Helper()
	dashboard, rules := readDashboard(t), readRules(t)
	return func(yield func(string, string) bool) {
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				if !yield("panel "+panel.Title, target.Expr) {
					return
				}
			}
		}
		for _, rule := range rules {
			if !yield(rule.Alert, rule.Expr) {
				return
			}
		}
	}
}

// anchors are GitHub's anchors of the headings of a page.
func anchors(page string) (all []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

var labelText = regexp.MustCompile(`\$labels\.([a-zA-Z_]+)|\{\{([a-zA-Z_]+)\}\}`)

// checkLabels checks that a text uses only labels of the query's result.
func checkLabels(t *testing.T, where, expr, text string) {
	t.Helper()
	q := parse(expr)
	for _, match := range labelText.FindAllStringSubmatch(text, -1) {
		label := match[1] + match[2]
		if q.by && !slices.Contains(q.grouped, label) || !q.by && !slices.Contains(targetLabels, label) {
			t.Errorf("%s uses the label %s, which the result of %s does not have", where, label, expr)
		}
	}
}

func TestAlertsAreComplete(t *testing.T) {
	t.Parallel()
	known := anchors(read(t, "../../docs/troubleshooting.md"))
	names := map[string]bool{}
	for _, rule := range readRules(t) {
		if names[rule.Alert] {
			t.Errorf("two alerts have the name %s", rule.Alert)
		}
		names[rule.Alert] = true
		if rule.For == "" {
			t.Errorf("%s does not say how long it waits", rule.Alert)
		}
		if severity := rule.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, severity) {
			t.Errorf("%s has the severity %q", rule.Alert, severity)
		}
		for _, which := range []string{"summary", "description"} {
			if rule.Annotations[which] == "" {
				t.Errorf("%s has no %s", rule.Alert, which)
			}
			checkLabels(t, rule.Alert, rule.Expr, rule.Annotations[which])
		}
		anchor, ok := strings.CutPrefix(rule.Annotations["runbook_url"], runbook)
		if !ok || !slices.Contains(known, anchor) {
			t.Errorf("%s: no heading of docs/troubleshooting.md has the link %q", rule.Alert, rule.Annotations["runbook_url"])
		}
		if want := strings.ToLower(rule.Alert); anchor != want {
			t.Errorf("%s links to #%s, want #%s", rule.Alert, anchor, want)
		}
	}
}

func TestTheDashboardIsValid(t *testing.T) {
	t.Parallel()
	dashboard := readDashboard(t)
	if dashboard.ID != nil {
		t.Error("it has an id, which belongs to one Grafana")
	}
	variables := map[string]observe.Variable{}
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = v
	}
	if v := variables["datasource"]; v.Type != "datasource" {
		t.Error("the reader cannot choose the Prometheus")
	}
	if v := variables["node"]; v.Type != "query" || v.AllValue != ".*" {
		t.Error("the reader cannot choose the node, or all nodes are only those with the label")
	}
	chosen := observe.Datasource{Type: "prometheus", UID: "${datasource}"}
	check := func(where string, d *observe.Datasource) {
		if d == nil || *d != chosen {
			t.Errorf("%s uses the datasource %v and not the variable", where, d)
		}
	}
	check("the variable node", variables["node"].Datasource)
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, panel := range dashboard.Panels {
		if panel.ID == 0 || ids[panel.ID] {
			t.Errorf("%s has the id %d, which is 0 or another panel's", panel.Title, panel.ID)
		}
		ids[panel.ID] = true
		checkPosition(t, cells, panel)
		if panel.Type == "row" {
			continue
		}
		check(panel.Title, panel.Datasource)
		if panel.Title == "" || panel.Description == "" || len(panel.Targets) == 0 {
			t.Errorf("panel %d %q has no description or no query", panel.ID, panel.Title)
		}
		for _, target := range panel.Targets {
			check(panel.Title, target.Datasource)
			checkLabels(t, panel.Title, target.Expr, target.LegendFormat)
			if strings.Contains(observe.Fill(target.Expr, timesFor(0).window), "$") {
				t.Errorf("%s uses a variable that the dashboard does not have: %s", panel.Title, target.Expr)
			}
		}
	}
}

// checkPosition checks the position of a panel in the grid of 24 columns.
func checkPosition(t *testing.T, cells map[[2]int]string, panel observe.Panel) {
	t.Helper()
	g := panel.GridPos
	if g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
		t.Errorf("%s is outside of the grid: %+v", panel.Title, g)
	}
	for x := g.X; x < g.X+g.W; x++ {
		for y := g.Y; y < g.Y+g.H; y++ {
			if other, taken := cells[[2]int{x, y}]; taken {
				t.Errorf("%s overlaps with %s", panel.Title, other)
				return
			}
			cells[[2]int{x, y}] = panel.Title
		}
	}
}

// Prometheus' tool checks the syntax of the rules, and their behaviour with the real windows and waits.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool on the PATH (apt-get install prometheus)")
	}
	for _, arguments := range [][]string{{"check", "rules", observe.RulesFile}, {"test", "rules", "testdata/alerts_test.yaml"}} {
		out, err := exec.CommandContext(t.Context(), promtool, arguments...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
}

// docs/observability.md has the same as the rules and the dashboard.
func TestTheHandbookAgrees(t *testing.T) {
	t.Parallel()
	page := read(t, handbook)
	var got, want []string
	row := regexp.MustCompile(`(?m)^\| \[(KeyVaultCSI\w+)\]\(troubleshooting\.md#(\w+)\) \| (\w+) \| (\w+) \| .+ \|$`)
	for _, match := range row.FindAllStringSubmatch(page, -1) {
		got = append(got, strings.Join(match[1:], " "))
	}
	for _, rule := range readRules(t) {
		want = append(want, strings.Join([]string{rule.Alert, strings.ToLower(rule.Alert), rule.Labels["severity"], rule.For}, " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of alerts (-rules +page):\n%s", diff)
	}
	got, want = nil, nil
	_, section, _ := strings.Cut(page, "\n## The dashboard\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, match := range regexp.MustCompile(`(?m)^\| ([A-Z][^|]*) \| .+ \|$`).FindAllStringSubmatch(section, -1) {
		got = append(got, match[1])
	}
	for _, panel := range readDashboard(t).Panels {
		if panel.Type == "row" {
			want = append(want, panel.Title)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of the dashboard's rows (-dashboard +page):\n%s", diff)
	}
	for _, match := range regexp.MustCompile(`!\[[^\]]+\]\(([^)]+\.png)\)`).FindAllStringSubmatch(page, -1) {
		if picture, err := os.Stat("../../docs/" + match[1]); err != nil || picture.Size() > 80<<10 {
			t.Errorf("picture %s: %v", match[1], err)
		}
	}
}

// Metrics that the page names must be among the daemon's.
func (r *run) checkHandbook(t *testing.T) {
	for _, match := range regexp.MustCompile("`(keyvault_csi_[^`]*)`").FindAllStringSubmatch(read(t, handbook), -1) {
		expr := match[1]
		if r.seen[expr] == nil && r.seen[expr+"_bucket"] != nil {
			expr += "_bucket" // the page names a histogram without suffix
		}
		for _, problem := range r.seen.problems(expr) {
			t.Errorf("docs/observability.md: %s: %s", match[1], problem)
		}
	}
}
