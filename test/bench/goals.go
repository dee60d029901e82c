package main

import (
	"fmt"
	"io"
	"strings"
)

// goal is a target value of the driver.
type goal int

// The goals, in the order in which they are printed.
const (
	goalWarm goal = iota
	goalFar
	goalCold
	goalBurst
	goalRotation
	goalRepublish
	goalVolumes
	goalThroughput
	goalCPU
	goalMemory
	goalThrottled
	goals // their number
)

// goalNames are the measured value and the target of each goal.
var goalNames = [goals][2]string{
	goalWarm:       {"publish of ten cached objects at the socket, against the floor (mount, ten files, unmount) and a Probe", "2.25 ×"},
	goalFar:        {"publish of ten objects, warm client, nothing cached, vault 20 ms away", "1.5 × trip + floor"},
	goalCold:       {"cold everything: the first publish after a start, first identity, first vault", "5 trips"},
	goalBurst:      {"200 pods of one identity with the same ten objects, starting at once", "10 vault requests, 1 token for each pod"},
	goalRotation:   {"1,000 volumes of ten objects, 20 identities: one rotation round", "200 vault requests; inside the interval 0"},
	goalRepublish:  {"republish inside the interval at the socket, p50, against a Probe", "2 ×"},
	goalVolumes:    {"publish with 2,000 volumes mounted, against none", "1.2 ×"},
	goalThroughput: {"publishes of ten cached objects a second, 16 callers on the same CPUs", "1,000 or more"},
	goalCPU:        {"CPU of the daemon for 1,000 publish + unpublish of ten cached objects", "1.0 s"},
	goalMemory:     {"memory (RSS) with 500 volumes of ten objects of 1 KiB, tmpfs not counted", "idle + 15 MB"},
	goalThrottled:  {"110 pods × 20 identities at once, vault allows 5,000 requests in 10 s", "all up in 2 × ideal; 0 requests too early"},
}

// result is the result for a goal.
type result struct {
	measured string
	reached  bool
	open     bool // it could not be measured; measured is the reason
}

// results are the results of one run. The goals of sections that did not run have none.
type results map[goal]result

// record adds a measured value. The text begins with the value that is compared with the goal.
func (v results) record(g goal, reached bool, format string, args ...any) {
	v[g] = result{measured: fmt.Sprintf(format, args...), reached: reached}
}

func (v results) rows() [][4]string {
	rows := [][4]string{{"what", "at most", "measured", ""}}
	for g := range goals {
		row := [4]string{goalNames[g][0], goalNames[g][1], "not measured in this run", "-"}
		if one, ok := v[g]; ok {
			row[2] = one.measured
			switch {
			case one.reached:
				row[3] = "reached"
			case !one.open:
				row[3] = "missed"
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// write prints the goals as a table in plain text.
func (v results) write(out io.Writer) {
	rows := v.rows()
	var wide [4]int
	for _, row := range rows {
		for i, cell := range row {
			wide[i] = max(wide[i], len([]rune(cell)))
		}
	}
	fmt.Fprint(out, "\nGoals\n")
	for _, row := range rows {
		fmt.Fprintf(out, "  %-*s  %-*s  %-*s  %s\n", wide[3], row[3], wide[0], row[0], wide[1], row[1], row[2])
	}
}

// markdown is the same as a Markdown table.
func (v results) markdown() string {
	var s strings.Builder
	for i, row := range v.rows() {
		fmt.Fprintf(&s, "| %s |\n", strings.Join(row[:], " | "))
		if i == 0 {
			s.WriteString("| --- | --- | --- | --- |\n")
		}
	}
	return s.String()
}
