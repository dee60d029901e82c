package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
