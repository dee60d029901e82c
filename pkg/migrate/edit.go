package migrate

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// edit replaces the bytes from start up to end.
type edit struct {
	start, end int
	with       string
	last       bool // after all other edits at the same offset: a new document at the end of the file
}

// inOrder sorts edits by their offsets, and refuses those that overlap.
func inOrder(edits []edit) ([]edit, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int {
		if a.last != b.last && a.start == b.start {
			if a.last {
				return 1
			}
			return -1
		}
		return cmp.Or(a.start-b.start, a.end-b.end)
	})
	at := 0
	for _, e := range edits {
		if e.start < at || e.end < e.start {
			return nil, errors.New("two changes meet in one place; write the lists around it with dashes, one item on each line")
		}
		at = e.end
	}
	return edits, nil
}

// replace returns the text with all edits.
func replace(data []byte, edits []edit) ([]byte, error) {
	edits, err := inOrder(edits)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(data[at:e.start])
		out.WriteString(e.with)
		at = e.end
	}
	out.Write(data[at:])
	return out.Bytes(), nil
}

// edit returns the edit of the bytes for a change.
func (s *stream) edit(c change) ([]edit, error) {
	flow := c.parent != nil && c.parent.Style&yaml.FlowStyle != 0
	switch c.kind {
	case removeItem:
		if flow {
			return s.removeFlow(c, 1)
		}
		return s.removeBlockItem(c)
	case removePair:
		if flow {
			return s.removeFlow(c, 2)
		}
		return s.removeBlockPair(c)
	case insertItems:
		return s.insertItems(c, flow)
	case replacePair:
		if flow {
			return s.replaceFlowPair(c)
		}
		return s.replaceBlockPair(c)
	case setScalar:
		return s.setScalar(c)
	case removeDocument:
		return s.removeDocument(c)
	default:
		return s.appendDocument(c)
	}
}

// span returns the offsets of the beginning and the end of a node.
func (t *text) span(first, last *yaml.Node) (start, end int, err error) {
	if start, err = t.start(first); err == nil {
		end, err = t.end(last)
	}
	return start, end, err
}

// removeFlow removes an item (size 1) or a pair (2) in brackets, with the comma.
func (s *stream) removeFlow(c change, size int) ([]edit, error) {
	at := position(c.parent, c.target)
	start, end, err := s.text.span(c.target, c.parent.Content[at+size-1])
	switch {
	case err != nil:
		return nil, err
	case at+size < len(c.parent.Content):
		end, err = s.text.start(c.parent.Content[at+size])
	case at > 0:
		start, err = s.text.end(c.parent.Content[at-1])
	}
	if err != nil {
		return nil, err
	}
	if bytes.Contains(s.text.data[start:end], []byte(" #")) {
		return nil, unsupported(c.target, "there may be a comment between brackets")
	}
	return []edit{{start: start, end: end}}, nil
}

// insertItems inserts items after a list item, in its style.
func (s *stream) insertItems(c change, flow bool) ([]edit, error) {
	var b strings.Builder
	if flow {
		end, err := s.text.end(c.target)
		for _, value := range c.values {
			b.WriteString(", " + inFlow(value, true))
		}
		return []edit{{start: end, end: end, with: b.String()}}, err
	}
	dash, start, end, err := s.text.itemLines(c.target)
	if err != nil {
		return nil, err
	}
	indent := strings.Repeat(" ", dash-start)
	for _, value := range c.values {
		for i, line := range inBlock(value) {
			mark := "  "
			if i == 0 {
				mark = "- "
			}
			b.WriteString(indent + mark + line + "\n")
		}
	}
	return []edit{s.text.insertLines(end, b.String())}, nil
}

func (s *stream) replaceFlowPair(c change) ([]edit, error) {
	start, end, err := s.text.span(c.target, valueOf(c.parent, c.target))
	if err != nil {
		return nil, err
	}
	if bytes.Contains(s.text.data[start:end], []byte(" #")) {
		return nil, unsupported(c.target, "there may be a comment between brackets")
	}
	key := c.key
	quoted := c.target.Style&yaml.DoubleQuotedStyle != 0
	if quoted {
		key = quote(key)
	}
	return []edit{{start: start, end: end, with: key + ": " + inFlow(c.values[0], quoted)}}, nil
}

func (s *stream) setScalar(c change) ([]edit, error) {
	if c.target.Kind != yaml.ScalarNode || c.target.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return nil, unsupported(c.target, "it must be text on one line")
	}
	start, err := s.text.content(c.target)
	if err != nil {
		return nil, err
	}
	end, err := s.text.end(c.target)
	if err != nil {
		return nil, err
	}
	quoted := c.target.Style&yaml.DoubleQuotedStyle != 0
	return []edit{{start: start, end: end, with: inFlow(scalar(c.key), quoted)}}, nil
}

// removeDocument removes a document with the "---" before it. What is above the first document stays.
func (s *stream) removeDocument(c change) ([]edit, error) {
	t := s.text
	root := c.target.Content[0]
	start, end, err := t.span(root, root)
	if err != nil {
		return nil, err
	}
	start = t.lineStart(start)
	if c.target != s.documents[0] {
		for start > 0 && !bytes.HasPrefix(t.data[start:], []byte("---")) {
			start = t.lineStart(start - 1)
		}
	}
	next := t.lineEnd(max(end-1, start))
	for next < len(t.data) && !bytes.HasPrefix(t.data[next:], []byte("---")) {
		next = t.lineEnd(next)
	}
	return []edit{{start: start, end: next}}, nil
}

func (s *stream) appendDocument(c change) ([]edit, error) {
	t := s.text
	if root := s.documents[0].Content[0]; root.Style&yaml.FlowStyle != 0 {
		return nil, unsupported(root, "JSON has one document, and the Secret would need another")
	}
	body := "---\n" + strings.Join(inBlock(c.values[0]), "\n") + "\n"
	e := t.insertLines(len(t.data), body)
	e.last = true
	return []edit{e}, nil
}
