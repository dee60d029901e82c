package soak_test

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/internal/axis"
)

// plot is a chart of lines over time.
type plot struct {
	file, title, y string
	lines          []line
}

type line struct {
	name   string
	points [][2]float64 // minutes, value
}

// The size of the chart in pixels. The legend is above the lines.
const (
	width, height            = 760, 300
	left, right, top, bottom = 60, 20, 56, 44
)

// colour is from a palette for colour-blind people (Okabe and Ito).
func colour(i int) string {
	return []string{"#d55e00", "#0072b2", "#009e73", "#cc79a7"}[i%4]
}

func (p plot) write(folder string) error {
	return os.WriteFile(filepath.Join(folder, p.file+".svg"), []byte(p.svg()), 0o644)
}

func (p plot) svg() string {
	var last, most float64
	for _, l := range p.lines {
		for _, at := range l.points {
			last, most = max(last, at[0]), max(most, at[1])
		}
	}
	xStep, yStep := axis.Step(last), axis.Step(most)
	most = max(yStep, math.Ceil(most/yStep)*yStep)
	x := func(v float64) float64 { return left + v/max(last, 1e-9)*(width-left-right) }
	y := func(v float64) float64 { return height - bottom - v/most*(height-top-bottom) }

	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text := func(x, y float64, anchor, what string) {
		fmt.Fprintf(&s, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(what))
	}
	text(left, 20, "start", p.title)
	text(left-8, top-10, "end", p.y)
	text(width-right, height-8, "end", "minutes")
	for v := 0.0; v <= most*1.0001; v += yStep {
		fmt.Fprintf(&s, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", left, width-right, y(v), y(v))
		text(left-8, y(v)+4, "end", fmt.Sprintf("%.4g", v))
	}
	for v := 0.0; v <= last*1.0001; v += xStep {
		text(x(v), height-bottom+18, "middle", fmt.Sprintf("%.4g", v))
	}
	for i, l := range p.lines {
		points := make([]string, 0, len(l.points))
		for _, at := range l.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(at[0]), y(at[1])))
		}
		fmt.Fprintf(&s, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.2"/>`+"\n", strings.Join(points, " "), colour(i))
		at := float64(left + 250*i)
		fmt.Fprintf(&s, `<line x1="%.1f" x2="%.1f" y1="36" y2="36" stroke="%s" stroke-width="2"/>`+"\n", at, at+20, colour(i))
		text(at+26, 40, "start", l.name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}
