package migrate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// text finds nodes in the bytes of a file. The library has the line and the column (in characters) of the beginning of a
// node, but not its end.
type text struct {
	data   []byte
	lines  []int                 // offset of the beginning of each line
	values map[*yaml.Node]string // the values as in data, of the nodes with placeholders
}

// value returns the value of a scalar as it is in the data.
func (t *text) value(node *yaml.Node) string {
	if value, ok := t.values[node]; ok {
		return value
	}
	return node.Value
}

func newText(data []byte) *text {
	t := &text{data: data, lines: []int{0}, values: map[*yaml.Node]string{}}
	for i := 0; i < len(data); {
		n := lineBreak(data[i:])
		if i += max(n, 1); n > 0 {
			t.lines = append(t.lines, i)
		}
	}
	return t
}

// lineBreak returns the length of the line end at the beginning of b. YAML 1.1 has five kinds, and the library counts all.
func lineBreak(b []byte) int {
	for _, mark := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if bytes.HasPrefix(b, []byte(mark)) {
			return len(mark)
		}
	}
	return 0
}

// unsupported is an error for a change that cannot be made in the text.
func unsupported(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d is written in a way that kvcsi does not edit: %s", node.Line, fmt.Sprintf(format, args...))
}

const byteOrderMark = "\ufeff"

// start returns the offset of the beginning of a node, including its anchor and tag.
func (t *text) start(node *yaml.Node) (int, error) {
	if node.Line < 1 || node.Line > len(t.lines) {
		return 0, unsupported(node, "its line is not in the file")
	}
	at := t.lines[node.Line-1]
	if node.Line == 1 && bytes.HasPrefix(t.data, []byte(byteOrderMark)) {
		at += len(byteOrderMark)
	}
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	return at, nil
}

// content returns the offset of the beginning of a node after its anchor and tag.
func (t *text) content(node *yaml.Node) (int, error) {
	at, err := t.start(node)
	if err != nil {
		return 0, err
	}
	if node.Anchor != "" || node.Style&yaml.TaggedStyle != 0 {
		for at < len(t.data) && (t.data[at] == '&' || t.data[at] == '!') {
			for at < len(t.data) && !isSpace(t.data[at]) {
				at++
			}
			for at < len(t.data) && isSpace(t.data[at]) {
				at++
			}
		}
	}
	return at, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// end returns the offset after the last character of a node, without the comments after it.
func (t *text) end(node *yaml.Node) (int, error) {
	if len(node.Content) > 0 && node.Style&yaml.FlowStyle == 0 {
		return t.end(node.Content[len(node.Content)-1])
	}
	at, err := t.content(node)
	if err != nil {
		return 0, err
	}
	switch {
	case node.Kind == yaml.AliasNode:
		return t.expect(node, at, "*"+node.Value)
	case node.Kind != yaml.ScalarNode:
		return t.flowEnd(node, at)
	case node.Style&yaml.DoubleQuotedStyle != 0:
		return t.quotedEnd(node, at, '"')
	case node.Style&yaml.SingleQuotedStyle != 0:
		return t.quotedEnd(node, at, '\'')
	case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return t.blockScalarEnd(node, at)
	}
	// A plain scalar can have several lines. Their white space differs from the value.
	for word := range strings.FieldsSeq(t.value(node)) {
		for at < len(t.data) && isSpace(t.data[at]) {
			at++
		}
		if at, err = t.expect(node, at, word); err != nil {
			return 0, err
		}
	}
	return at, nil
}

func (t *text) expect(node *yaml.Node, at int, want string) (end int, err error) {
	if !bytes.HasPrefix(t.data[at:], []byte(want)) {
		return 0, unsupported(node, "its text is not where it should be")
	}
	return at + len(want), nil
}

func (t *text) quotedEnd(node *yaml.Node, at int, quote byte) (int, error) {
	if _, err := t.expect(node, at, string(quote)); err != nil {
		return 0, err
	}
	for i := at + 1; i < len(t.data); i++ {
		switch c := t.data[i]; {
		case c == '\\' && quote == '"':
			i++
		case c == quote && quote == '\'' && i+1 < len(t.data) && t.data[i+1] == quote:
			i++
		case c == quote:
			return i + 1, nil
		}
	}
	return 0, unsupported(node, "its quotes do not end")
}

// flowEnd finds the closing bracket for the one at the offset.
func (t *text) flowEnd(node *yaml.Node, at int) (int, error) {
	depth := 0
	for i := at; i < len(t.data); i++ {
		c := t.data[i]
		before := byte(' ')
		if i > at {
			before = t.data[i-1]
		}
		switch {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case (c == '"' || c == '\'') && (isSpace(before) || strings.IndexByte("[{,:", before) >= 0):
			end, err := t.quotedEnd(node, i, c) // a quote within a plain scalar is text
			if err != nil {
				return 0, err
			}
			i = end - 1
		case c == '#' && isSpace(before):
			i = t.lineEnd(i) - 1
		}
		if depth == 0 {
			if i == at {
				break
			}
			return i + 1, nil
		}
	}
	return 0, unsupported(node, "its brackets do not end")
}

// blockScalarEnd finds the end of a literal or folded scalar by its indentation.
func (t *text) blockScalarEnd(node *yaml.Node, at int) (int, error) {
	end := t.lineContentEnd(at)
	if strings.Trim(t.value(node), "\n") == "" {
		return end, nil
	}
	indent := -1
	for line := t.lineEnd(at); line < len(t.data); line = t.lineEnd(line) {
		blanks, blank := t.indent(line)
		switch {
		case blank:
			continue
		case indent < 0:
			indent = blanks
		case blanks < indent:
			return end, nil
		}
		end = t.lineContentEnd(line)
	}
	return end, nil
}

// lineStart returns the beginning of the line of the offset.
func (t *text) lineStart(at int) int {
	i, exact := slices.BinarySearch(t.lines, at)
	if exact {
		return at
	}
	return t.lines[i-1]
}

// lineEnd returns the beginning of the next line, or the end of the file.
func (t *text) lineEnd(at int) int {
	i, exact := slices.BinarySearch(t.lines, at)
	if exact {
		i++
	}
	if i == len(t.lines) {
		return len(t.data)
	}
	return t.lines[i]
}

// lineContentEnd returns the end of the line before its line end.
func (t *text) lineContentEnd(at int) int {
	start := t.lineStart(at)
	for i := at; i < len(t.data); i++ {
		if lineBreak(t.data[i:]) > 0 {
			return max(i, start)
		}
	}
	return len(t.data)
}

// indent counts the spaces at the beginning of a line, and reports whether it has nothing else.
func (t *text) indent(line int) (spaces int, blank bool) {
	content := t.data[line:t.lineContentEnd(line)]
	trimmed := bytes.TrimLeft(content, " ")
	return len(content) - len(trimmed), len(bytes.TrimSpace(trimmed)) == 0
}

// isComment reports whether a line has only a comment.
func (t *text) isComment(line int) bool {
	return bytes.HasPrefix(bytes.TrimLeft(t.data[line:t.lineContentEnd(line)], " \t"), []byte("#"))
}

// lineBreakAt returns the line end that the file uses near the offset.
func (t *text) lineBreakAt(at int) string {
	for _, line := range []int{at, t.lineStart(max(at-1, 0)), 0} {
		if end := t.lineContentEnd(line); end < len(t.data) {
			return string(t.data[end : end+lineBreak(t.data[end:])])
		}
	}
	return "\n"
}
