package main

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

// The size of the terminal in characters, and of a character in pixels.
const (
	columns, rows           = 114, 30
	charWidth, lineHeight   = 8, 18
	marginLeft, marginAbove = 16, 14
	// continued is the class of a row that continues the line above.
	continued = "w"
)

// The pace, in seconds.
const (
	perLine   = 0.12
	perStep   = 1.6 // before a line that begins with a number
	atTheEnd  = 6.0
	firstWait = 1.0
)

var step = regexp.MustCompile(`^\d\. `)

// row is a line of the terminal, or a part of one that is too long.
type row struct {
	text      string
	continued bool
	at        float64 // when it appears
}

// layout wraps lines as a terminal does, and says when each row appears. The second result is the time of the whole.
func layout(lines []string) ([]row, float64) {
	var all []row
	at := 0.0
	for i, line := range lines {
		switch {
		case i == 1:
			at += firstWait
		case step.MatchString(line):
			at += perStep
		case i > 0:
			at += perLine
		}
		runes := []rune(line)
		for first := true; first || len(runes) > 0; first = false {
			n := min(len(runes), columns)
			all = append(all, row{text: string(runes[:n]), continued: !first, at: at})
			runes = runes[n:]
		}
	}
	return all, at + atTheEnd
}

// draw makes the picture. Without animation, or for a reader who prefers none, it shows the last rows. A cover uncovers one row
// after the other, and the text scrolls when the window is full.
func draw(lines []string) string {
	all, total := layout(lines)
	width, height := columns*charWidth+2*marginLeft, rows*lineHeight+2*marginAbove
	var cover, scroll strings.Builder
	for i, r := range all {
		percent := 100 * r.at / total
		visible := i + 1
		fmt.Fprintf(&cover, "%.2f%%{transform:translateY(%dpx)}", percent, min(visible, rows)*lineHeight)
		if visible > rows {
			fmt.Fprintf(&scroll, "%.2f%%{transform:translateY(%dpx)}", percent, (rows-visible)*lineHeight)
		}
	}
	last := max(0, len(all)-rows) * lineHeight

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img">`+"\n", width, height)
	b.WriteString("<title>A run of kvcsi demo: a volume with secrets and a certificate, a rotation, and the teardown</title>\n")
	fmt.Fprintf(&b, `<style>
.page,.cover{fill:#f6f8fa}.page{stroke:#d0d7de}
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;fill:#1f2328;white-space:pre}
.step{font-weight:700;fill:#0b5cad}
.text{transform:translateY(-%[1]dpx)}.cover{transform:translateY(%[2]dpx)}
@media (prefers-color-scheme:dark){.page,.cover{fill:#161b22}.page{stroke:#30363d}text{fill:#e6edf3}.step{fill:#79b8ff}}
@media (prefers-reduced-motion:no-preference){
.text{animation:scroll %.1[3]fs step-end infinite}.cover{animation:cover %.1[3]fs step-end infinite}
}
@keyframes cover{%[4]s100%%{transform:translateY(%[2]dpx)}}
@keyframes scroll{0%%{transform:translateY(0)}%[5]s100%%{transform:translateY(-%[1]dpx)}}
</style>
`, last, rows*lineHeight, total, cover.String(), scroll.String())
	fmt.Fprintf(&b, `<rect class="page" x=".5" y=".5" width="%d" height="%d" rx="8"/>`+"\n", width-1, height-1)
	fmt.Fprintf(&b, `<svg x="%d" y="%d" width="%d" height="%d">`+"\n<g class=\"text\">\n", marginLeft, marginAbove, width-2*marginLeft, rows*lineHeight)
	for i, r := range all {
		class := ""
		switch {
		case r.continued:
			class = ` class="` + continued + `"`
		case i == 0 || step.MatchString(r.text):
			class = ` class="step"`
		}
		fmt.Fprintf(&b, "<text%s y=\"%d\">%s</text>\n", class, i*lineHeight+13, html.EscapeString(r.text))
	}
	fmt.Fprintf(&b, "</g>\n<rect class=\"cover\" width=\"%d\" height=\"%d\"/>\n</svg>\n</svg>\n", width, rows*lineHeight)
	return b.String()
}

var textElement = regexp.MustCompile(`<text( class="` + continued + `"| class="step"|) y="\d+">(.*)</text>`)

// lines returns what draw has drawn.
func lines(svg string) []string {
	var all []string
	for _, match := range textElement.FindAllStringSubmatch(svg, -1) {
		text := html.UnescapeString(match[2])
		if strings.Contains(match[1], `"`+continued+`"`) {
			all[len(all)-1] += text
		} else {
			all = append(all, text)
		}
	}
	return all
}
