package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table formats aligned columns. All but the first are numbers, aligned to the right.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(out io.Writer, title string, notes ...string) {
	fmt.Fprintf(out, "\n%s\n", title)
	wide := 0
	for _, row := range t.rows {
		wide = max(wide, len([]rune(row[0])))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range t.rows {
		first := row[0] + strings.Repeat(" ", wide-len([]rune(row[0])))
		_, _ = fmt.Fprintln(w, strings.Join(append([]string{first}, row[1:]...), "\t")+"\t")
	}
	_ = w.Flush()
	for _, note := range notes {
		fmt.Fprintln(out, "  "+note)
	}
}
