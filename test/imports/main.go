// Command imports draws docs/imports.svg: the packages of this module that the daemon is made of, and which imports which.
//
//	go run ./test/imports
//
// It reads the import declarations and needs no go command. A test compares the committed picture with a new one.
package main

import (
	"cmp"
	"fmt"
	"go/build"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	module  = "github.com/keyvault-csi/keyvault-csi/"
	daemon  = "cmd/keyvault-csi-driver"
	picture = "docs/imports.svg"
)

func main() {
	g, err := read(".")
	if err == nil {
		err = os.WriteFile(picture, []byte(g.svg()), 0o644) //nolint:gosec // G306: a picture for everybody
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "imports:", err)
		os.Exit(1)
	}
}

// graph has the imports of each package, both as folders of the module, such as pkg/volume.
type graph map[string][]string

// read follows the imports of the daemon through the module in the folder root, without tests.
func read(root string) (graph, error) {
	g := graph{}
	for todo := []string{daemon}; len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		p, err := build.Default.ImportDir(filepath.Join(root, name), 0)
		if err != nil {
			return nil, fmt.Errorf("read the imports of %s: %w", name, err)
		}
		g[name] = nil
		for _, path := range p.Imports {
			if ours, ok := strings.CutPrefix(path, module); ok {
				g[name] = append(g[name], ours)
			}
		}
		todo = append(todo, g[name]...)
	}
	return g, nil
}

// Sizes in pixels.
const (
	boxHeight, rowHeight, margin, gap = 34, 110, 20, 26
	charWidth                         = 7.4
)

// vertex is a package in its row, or a lane: all lines to one package that pass a row share a lane.
type vertex struct {
	name  string // of the package that is here or that the lane leads to
	lane  bool
	down  []*vertex // in the next row
	width float64
	x     float64 // of the middle; 0 is the middle of the picture
	above []float64
}

// rows places each package below all that import it, so that every line leads down.
func (g graph) rows() (rows [][]*vertex) {
	depth := map[string]int{}
	var sink func(name string, to int)
	sink = func(name string, to int) {
		depth[name] = max(depth[name], to)
		for _, next := range g[name] {
			sink(next, to+1)
		}
	}
	sink(daemon, 0)
	rows = make([][]*vertex, slices.Max(slices.Collect(maps.Values(depth)))+1)
	known := map[string]*vertex{}
	at := func(row int, name string) *vertex {
		key := fmt.Sprint(row, name)
		if known[key] == nil {
			known[key] = &vertex{name: name, lane: row < depth[name], width: gap}
			if row == depth[name] {
				known[key].width = 2*gap + charWidth*float64(len(name))
			}
			rows[row] = append(rows[row], known[key])
		}
		return known[key]
	}
	for _, name := range slices.Sorted(maps.Keys(g)) {
		for _, to := range g[name] {
			upper := at(depth[name], name)
			for row := depth[name] + 1; row <= depth[to]; row++ {
				lower := at(row, to)
				if !slices.Contains(upper.down, lower) {
					upper.down = append(upper.down, lower)
				}
				upper = lower
			}
		}
	}
	return rows
}

// arrange gives the vertices their x, in each row in the order of the mean x of those above, which leaves few crossings. It
// returns the width of the widest row.
func arrange(rows [][]*vertex) (widest float64) {
	for _, row := range rows {
		slices.SortStableFunc(row, func(a, b *vertex) int { return cmp.Compare(mean(a.above), mean(b.above)) })
		width := 0.0
		for _, v := range row {
			width += v.width
		}
		widest = max(widest, width)
		x := -width / 2
		for _, v := range row {
			v.x = x + v.width/2
			x += v.width
			for _, to := range v.down {
				to.above = append(to.above, v.x)
			}
		}
	}
	return widest
}

func mean(xs []float64) (sum float64) {
	for _, x := range xs {
		sum += x / float64(len(xs))
	}
	return sum
}

const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="monospace" font-size="12" text-anchor="middle">
<style>
rect { fill: #fff } .box { stroke: #0072b2 } text { fill: #222 } path { fill: none; stroke: #888 }
@media (prefers-color-scheme: dark) { rect { fill: #0d1117 } .box { stroke: #56b4e9 } text { fill: #eee } path { stroke: #777 } }
</style>
<rect width="100%%" height="100%%"/>
`

// svg draws the packages in rows, and each import as a line from the upper package to the lower one.
func (g graph) svg() string {
	rows := g.rows()
	width := arrange(rows)
	var lines, boxes strings.Builder
	for i, row := range rows {
		top := margin + i*rowHeight
		bottom, below := top+boxHeight, top+rowHeight
		for _, v := range row {
			x := width/2 + v.x
			if v.lane {
				fmt.Fprintf(&lines, `<path d="M%.0f %d V%d"/>`+"\n", x, top, bottom)
			} else {
				fmt.Fprintf(&boxes, `<rect class="box" x="%.0f" y="%d" width="%.0f" height="%d" rx="6"/>`, x-(v.width-gap)/2, top, v.width-gap, boxHeight)
				fmt.Fprintf(&boxes, `<text x="%.0f" y="%d">%s</text>`+"\n", x, top+boxHeight/2+5, v.name)
			}
			for _, to := range v.down {
				end := width/2 + to.x
				fmt.Fprintf(&lines, `<path d="M%.0f %d C%.0f %d %.0f %d %.0f %d"/>`+"\n", x, bottom, x, bottom+40, end, below-40, end, below)
			}
		}
	}
	return fmt.Sprintf(svgHead, width, (len(rows)-1)*rowHeight+boxHeight+2*margin) + lines.String() + boxes.String() + "</svg>\n"
}
