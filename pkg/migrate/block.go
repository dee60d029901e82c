package migrate

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The edits of YAML in block style, where lines and indentation are the structure.

// dash returns the offset of the "-" before an item. Only spaces may be before it in its line.
func (t *text) dash(item *yaml.Node) (int, error) {
	at, err := t.start(item)
	if err != nil {
		return 0, err
	}
	line := t.lineStart(at)
	spaces, _ := t.indent(line)
	dash := line + spaces
	if dash >= at || t.data[dash] != '-' || len(bytes.TrimSpace(t.data[dash+1:at])) > 0 {
		return 0, unsupported(item, "a list item must begin on the line of its own \"-\"")
	}
	return dash, nil
}

// itemLines returns the whole lines of an item, with the comments that are indented deeper than its dash.
func (t *text) itemLines(item *yaml.Node) (dash, start, end int, err error) {
	if dash, err = t.dash(item); err != nil {
		return 0, 0, 0, err
	}
	if end, err = t.end(item); err != nil {
		return 0, 0, 0, err
	}
	start = t.lineStart(dash)
	end = t.lineEnd(max(end-1, dash))
	for line := end; line < len(t.data); line = t.lineEnd(line) {
		spaces, blank := t.indent(line)
		if !blank && (!t.isComment(line) || spaces <= dash-start) {
			break
		}
		if !blank {
			end = t.lineEnd(line)
		}
	}
	return dash, start, end, nil
}

func (s *stream) removeBlockItem(c change) ([]edit, error) {
	_, start, end, err := s.text.itemLines(c.target)
	return []edit{{start: start, end: end}}, err
}

// removeBlockPair removes the key and the value, but not the comments above the value's first line, which describe the
// list or mapping.
func (s *stream) removeBlockPair(c change) ([]edit, error) {
	t := s.text
	value := valueOf(c.parent, c.target)
	start, end, err := t.span(c.target, value)
	if err != nil {
		return nil, err
	}
	line := t.lineStart(start)
	if len(bytes.TrimSpace(t.data[line:start])) > 0 { // "- subPath: x": the next key moves up to the dash
		at := position(c.parent, c.target)
		if at+2 >= len(c.parent.Content) {
			return nil, unsupported(c.target, "nothing would be left behind the \"-\"")
		}
		next, err := t.start(c.parent.Content[at+2])
		if err != nil || len(bytes.TrimSpace(t.data[end:next])) > 0 {
			return nil, unsupported(c.target, "a comment stands between two keys")
		}
		return []edit{{start: start, end: next}}, nil
	}
	edits := []edit{{start: line, end: t.lineEnd(start)}}
	if value.Kind != yaml.SequenceNode || value.Style&yaml.FlowStyle != 0 {
		return []edit{{start: line, end: t.lineEnd(max(end-1, start))}}, nil
	}
	for _, item := range value.Content {
		_, start, end, err := t.itemLines(item)
		if err != nil {
			return nil, err
		}
		edits = append(edits, edit{start: start, end: end})
	}
	return edits, nil
}

// insertLines inserts whole lines with the line ends of the file, also after a last line without one.
func (t *text) insertLines(at int, lines string) edit {
	mark := t.lineBreakAt(at)
	lines = strings.ReplaceAll(lines, "\n", mark)
	if at == len(t.data) && at > 0 && t.lines[len(t.lines)-1] != at {
		lines = mark + strings.TrimSuffix(lines, mark)
	}
	return edit{start: at, end: at, with: lines}
}

// replaceBlockPair keeps the comments of the old value: full lines where they are, others on lines of their own.
func (s *stream) replaceBlockPair(c change) ([]edit, error) {
	t := s.text
	value := valueOf(c.parent, c.target)
	start, keyEnd, err := t.span(c.target, c.target)
	if err != nil {
		return nil, err
	}
	end, err := t.end(value)
	if err != nil {
		return nil, err
	}
	if value.Anchor != "" || value.Kind == yaml.AliasNode || value.Style&yaml.TaggedStyle != 0 {
		return nil, unsupported(value, "it has an anchor, an alias or a tag")
	}
	colon := keyEnd + bytes.IndexByte(t.data[keyEnd:], ':')
	if colon < keyEnd || len(bytes.TrimSpace(t.data[keyEnd:colon])) > 0 {
		return nil, unsupported(c.target, "its colon is on another line")
	}
	deeper := c.target.Column + 1
	if value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0 && len(value.Content) > 0 {
		deeper = value.Content[0].Column - 1
	}
	indent := strings.Repeat(" ", deeper)
	edits := []edit{{start: start, end: keyEnd, with: c.key}}
	last := max(colon+1, end)
	if value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0 {
		comments := lineComments(value)
		for line := t.lineEnd(start); line < last; line = t.lineEnd(line) {
			if _, blank := t.indent(line); blank || t.isComment(line) {
				continue
			}
			kept := ""
			if number := slices.Index(t.lines, line) + 1; comments[number] != "" {
				kept = indent + comments[number] + t.lineBreakAt(line)
			}
			edits = append(edits, edit{start: line, end: t.lineEnd(line), with: kept})
		}
	} else if end > colon+1 {
		edits = append(edits, edit{start: colon + 1, end: end})
	}
	var b strings.Builder
	for _, line := range inBlock(c.values[0]) {
		if line != "" {
			line = indent + line
		}
		b.WriteString(line + "\n")
	}
	lines := t.insertLines(t.lineEnd(last-1), b.String())
	if previous := edits[len(edits)-1]; previous.end == lines.start && previous.start == t.lineStart(previous.start) && previous.end > t.lineContentEnd(start) {
		lines.with = strings.TrimPrefix(lines.with, t.lineBreakAt(start)) // remove the whole last line, which has no line end
	}
	return append(edits, lines), nil
}

// lineComments returns the comments at the ends of the lines of scalars below a node, by line.
func lineComments(node *yaml.Node) map[int]string {
	found := map[int]string{}
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		if n.LineComment != "" {
			found[n.Line] = n.LineComment
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(node)
	return found
}
