package observe_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// seenMetrics is the metrics of a daemon: for each name of a series its labels, and their values.
type seenMetrics map[string]map[string][]string

var (
	seriesLine = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

func (v seenMetrics) add(page string) {
	for _, line := range seriesLine.FindAllStringSubmatch(page, -1) {
		if v[line[1]] == nil {
			v[line[1]] = map[string][]string{}
		}
		for _, pair := range labelPair.FindAllStringSubmatch(line[2], -1) {
			if values := v[line[1]][pair[1]]; !slices.Contains(values, pair[2]) {
				v[line[1]][pair[1]] = append(values, pair[2])
			}
		}
	}
}

// Labels that Prometheus adds to every series of a target of the chart's monitors. It adds the metric up too.
var targetLabels = []string{"job", "instance", "namespace", "pod", "node"}

const up = "up"

// selector is one set of series in a query.
type selector struct {
	name     string
	matchers []matcher
}

type matcher struct{ label, operator, value string }

// query is the names in a PromQL query. promtool checks the syntax.
type query struct {
	selectors []selector
	grouped   []string // labels in by, on and group_left
	by        bool     // the result has only these labels
}

var (
	selectorText = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	matcherText  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	groupText    = regexp.MustCompile(`\b(by|on|group_left|without|ignoring)\s*\(([^)]*)\)`)
	windowText   = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\S+`)
	wordText     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(?`)
	keywords     = []string{"and", "or", "unless", "bool", "offset"}
)

func parse(expr string) (q query) {
	for _, group := range groupText.FindAllStringSubmatch(expr, -1) {
		q.by = q.by || group[1] == "by"
		for label := range strings.SplitSeq(group[2], ",") {
			if label = strings.TrimSpace(label); label != "" {
				q.grouped = append(q.grouped, label)
			}
		}
	}
	rest := groupText.ReplaceAllString(expr, " ")
	for _, text := range selectorText.FindAllStringSubmatch(rest, -1) {
		s := selector{name: text[1]}
		for _, m := range matcherText.FindAllStringSubmatch(text[2], -1) {
			s.matchers = append(s.matchers, matcher{m[1], m[2], m[3]})
		}
		q.selectors = append(q.selectors, s)
	}
	rest = windowText.ReplaceAllString(selectorText.ReplaceAllString(rest, " "), " ")
	for _, word := range wordText.FindAllString(rest, -1) {
		if word = strings.TrimSpace(word); !strings.HasSuffix(word, "(") && !slices.Contains(keywords, word) {
			q.selectors = append(q.selectors, selector{name: word})
		}
	}
	return q
}

// problems returns the names of a query that the daemon does not have.
func (v seenMetrics) problems(expr string) (problems []string) {
	q := parse(expr)
	if len(q.selectors) == 0 {
		problems = append(problems, "asks for no metric")
	}
	known := slices.Clone(targetLabels)
	for _, s := range q.selectors {
		labels, ok := v[s.name]
		if !ok && s.name != up {
			problems = append(problems, "there is no metric "+s.name)
			continue
		}
		for label := range labels {
			known = append(known, label)
		}
		for _, m := range s.matchers {
			problems = append(problems, m.problems(s.name, labels)...)
		}
	}
	for _, label := range q.grouped {
		if !slices.Contains(known, label) {
			problems = append(problems, "no metric of it has the label "+label)
		}
	}
	return problems
}

// problems checks that every value of a matcher, positive or negative, was among the metrics.
func (m matcher) problems(metric string, labels map[string][]string) (problems []string) {
	if slices.Contains(targetLabels, m.label) {
		return nil
	}
	values, ok := labels[m.label]
	if !ok {
		return []string{fmt.Sprintf("%s has no label %s", metric, m.label)}
	}
	switch m.operator {
	case "=", "!=":
		if !slices.Contains(values, m.value) {
			problems = append(problems, fmt.Sprintf("%s has no %s=%q, only %q", metric, m.label, m.value, values))
		}
	case "=~":
		for alternative := range strings.SplitSeq(m.value, "|") {
			whole := regexp.MustCompile("^(?:" + alternative + ")$")
			if !slices.ContainsFunc(values, whole.MatchString) {
				problems = append(problems, fmt.Sprintf("%s has no %s=~%q, only %q", metric, m.label, alternative, values))
			}
		}
	}
	return problems
}

// TestSeenMetrics tests the parser of queries and the search for unknown names.
func TestSeenMetrics(t *testing.T) {
	t.Parallel()
	v := seenMetrics{}
	v.add("# HELP a Things.\n# TYPE a counter\na{code=\"429\",vault=\"https://x\"} 1\na{code=\"200\",vault=\"other\"} 2e+06\nb 7\n")
	for expr, want := range map[string]string{
		`sum by (code) (rate(a{vault!="other"}[5m])) > 0`: "",
		`b and on (job, instance) a{node=~"$node"}`:       "",
		`sum(increase(b[5m]) + a) or vector(0)`:           "",
		`up{job=~"x"} == 0`:                               "",
		`c`:                                               "there is no metric c",
		`sum(rate(a_total[5m]))`:                          "there is no metric a_total",
		`a{cod="429"}`:                                    "a has no label cod",
		`a{code="503"}`:                                   `a has no code="503", only ["429" "200"]`,
		`a{code!="503"}`:                                  `a has no code="503", only ["429" "200"]`,
		`a{code=~"4..|5.."}`:                              `a has no code=~"5..", only ["429" "200"]`,
		`sum by (vaults) (a)`:                             "no metric of it has the label vaults",
		`vector(1)`:                                       "asks for no metric",
		`sum by (code) (rate(a[$__rate_interval])) / sum(wrong)`: "there is no metric wrong",
	} {
		if got := strings.Join(v.problems(expr), "; "); got != want {
			t.Errorf("%s:\n got %s\nwant %s", expr, got, want)
		}
	}
}
