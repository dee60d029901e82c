package volume

import (
	"strings"
	"unicode"
)

// MaxText bounds what an event, a status or a line of the log has of an error, in bytes: above the 4 KiB of [Problems], below
// the 8 KiB that some HTTP/2 implementations allow for trailers.
const MaxText = 5 << 10

// OneLine makes a text of any origin fit for an event, a log and a terminal: valid UTF-8, no control characters, at most limit bytes.
func OneLine(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= limit {
		return text
	}
	const cut = " …"
	return strings.ToValidUTF8(text[:limit-len(cut)], "") + cut
}
