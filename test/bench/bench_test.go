package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The plots of fleets have a point for each row of the table, but not for what never happened.
func TestPlotsOfFleets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "table.md")
	rows := "| 100 × 100 | 64 of 400 | 16.1 % | 9.5 % | 0.5 % | 23 s | 27 s | 27 s | 25 s | 92 s | 178 s | 194 s | 315 s | 161 s | 0.998 |\n" +
		"| 1,000 × 100, polling | 400 of 400 | 100.0 % | 36.1 % | 19.6 % | 491 s | never | never | 250 s | 178 s | 865 s | 1199 s | 375 s | never | 0.907 |\n" +
		"| 100 × 100, no Retry-After | 64 of 400 | 16.1 % | 9.5 % | 7 % | 23 s | 27 s | 27 s | 25 s | 92 s | 178 s | 194 s | 315 s | 161 s | 0.998 |\n"
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	var p plots
	if err := p.fleets(file); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, plot := range p.all {
		for _, l := range plot.lines {
			got = append(got, fmt.Sprint(plot.file, " ", l.name, " ", l.points))
		}
	}
	want := []string{
		"fleets-refused driver [[100 0.5]]", "fleets-refused polling [[1000 19.6]]",
		"fleets-mounted driver [[100 27]]", "fleets-mounted ideal [[100 25]]",
		"fleets-age driver [[100 178]]", "fleets-age goal [[100 315]]", "fleets-age polling [[1000 865]]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make(samples, 100)
	for i := range hundred {
		hundred[99-i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		s    samples
		q    float64
		want time.Duration
	}{
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.95, 95},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{samples{3, 1, 2}, 0.5, 2},
		{samples{7}, 0.99, 7},
		{nil, 0.5, 0},
	} {
		if got := test.s.quantile(test.q); got != test.want {
			t.Errorf("quantile %g of %v is %d, want %d", test.q, test.s, got, test.want)
		}
	}
}

// The steps of a round run one after the other, and warm-up rounds are not counted.
func TestAlternate(t *testing.T) {
	t.Parallel()
	var order strings.Builder
	write := func(s string) step {
		return func(context.Context) error { order.WriteString(s); return nil }
	}
	s, err := alternate(t.Context(), 3, write("a"), write("b"))
	if err != nil {
		t.Fatal(err)
	}
	if order.String() != "abababab" || len(s) != 2 || len(s[0]) != 3 || len(s[1]) != 3 {
		t.Errorf("ran %q and counted %d and %d samples", order.String(), len(s[0]), len(s[1]))
	}
	broken := errors.New("broken")
	if _, err := alternate(t.Context(), 3, write("c"), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a step that fails gives %v", err)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := newTable("ms", "p50", "p99")
	table.add("floor", "0.2", "1")
	table.add("a longer name", "10", "11.5")
	var out strings.Builder
	table.write(&out, "Title", "a note")
	want := `
Title
  ms             p50   p99
  floor          0.2     1
  a longer name   10  11.5
  a note
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A plot must be valid XML with all its points inside of the picture.
func TestPlotIsSVG(t *testing.T) {
	t.Parallel()
	p := (&plots{}).add("file", "Title <1>", "objects", "ms")
	for x, y := range map[float64]float64{1: 0.2, 10: 3, 50: 97} {
		p.value("publish & unpublish", x, y)
	}
	d := xml.NewDecoder(strings.NewReader(p.svg()))
	shapes := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			shapes[e.Name.Local]++
		}
	}
	if shapes["circle"] != 3 || shapes["polyline"] != 1 {
		t.Errorf("drawn: %v", shapes)
	}
}
