package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/axis"
)

// plots are the plots of one run.
type plots struct{ all []*plot }

// plot is a chart of lines. Its x axis has the same step between all values, which differ by factors.
type plot struct {
	file, title, x, y string
	lines             []*line
}

type line struct {
	name   string
	points [][2]float64
}

func (p *plots) add(file, title, x, y string) *plot {
	made := &plot{file: file, title: title, x: x, y: y}
	p.all = append(p.all, made)
	return made
}

// point adds a duration, in milliseconds, to the line called name.
func (p *plot) point(name string, x float64, d time.Duration) {
	p.value(name, x, float64(d)/float64(time.Millisecond))
}

func (p *plot) value(name string, x, y float64) {
	i := slices.IndexFunc(p.lines, func(l *line) bool { return l.name == name })
	if i < 0 {
		i, p.lines = len(p.lines), append(p.lines, &line{name: name})
	}
	p.lines[i].points = append(p.lines[i].points, [2]float64{x, y})
}

// write makes one SVG file of each plot.
func (p *plots) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // G301: pictures for everybody
		return err
	}
	for _, one := range p.all {
		if err := os.WriteFile(filepath.Join(folder, one.file+".svg"), []byte(one.svg()), 0o644); err != nil { //nolint:gosec // G306: as above
			return err
		}
	}
	return nil
}

// The size of the chart in pixels. The legend is to the right of the lines.
const (
	width, height            = 720, 360
	left, right, top, bottom = 70, 190, 40, 50
)

// colours are a palette for colour-blind people (Okabe and Ito).
var colours = []string{"#d55e00", "#e69f00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7"}

func (p *plot) svg() string {
	xs, most := p.extent()
	step := axis.Step(most)
	most = math.Ceil(most/step) * step
	x := func(v float64) float64 {
		i := slices.Index(xs, v)
		return left + float64(i)*(width-left-right)/math.Max(1, float64(len(xs)-1))
	}
	y := func(v float64) float64 { return height - bottom - v/most*(height-top-bottom) }

	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text := func(x, y float64, anchor, what string) {
		fmt.Fprintf(&s, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(what))
	}
	text(left, 24, "start", p.title)
	text(left-8, top-8, "end", p.y)
	text(left+float64(width-left-right)/2, height-12, "middle", p.x)
	for v := 0.0; v <= most*1.0001; v += step {
		fmt.Fprintf(&s, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", left, width-right, y(v), y(v))
		text(left-8, y(v)+4, "end", fmt.Sprintf("%.4g", v))
	}
	for _, v := range xs {
		text(x(v), height-bottom+18, "middle", fmt.Sprintf("%g", v))
	}
	for i, l := range p.lines {
		colour := colours[i%len(colours)]
		points := make([]string, 0, len(l.points))
		for _, at := range l.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(at[0]), y(at[1])))
			fmt.Fprintf(&s, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(at[0]), y(at[1]), colour)
		}
		fmt.Fprintf(&s, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colour)
		legend := float64(top + 10 + 20*i)
		fmt.Fprintf(&s, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="2"/>`+"\n", width-right+16, width-right+36, legend, legend, colour)
		text(width-right+42, legend+4, "start", l.name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// extent returns all x in order, and the largest y.
func (p *plot) extent() (xs []float64, most float64) {
	for _, l := range p.lines {
		for _, at := range l.points {
			xs, most = append(xs, at[0]), max(most, at[1])
		}
	}
	slices.Sort(xs)
	return slices.Compact(xs), most
}
