package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// escapeControls replaces the characters that control a terminal or the direction of text by \uXXXX, which is the same character in a
// string of JSON and of YAML.
func escapeControls(text string) string {
	var clean strings.Builder
	for _, r := range text {
		if r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			fmt.Fprintf(&clean, `\u%04x`, r)
			continue
		}
		clean.WriteRune(r)
	}
	return clean.String()
}

// terminal writes text with escapeControls, because tenants write the attributes and messages that a cluster returns.
type terminal struct{ to io.Writer }

func (t terminal) Write(text []byte) (int, error) {
	if _, err := io.WriteString(t.to, escapeControls(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}
