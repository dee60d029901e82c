package migrate

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// placeholder is a text that another tool replaces before the manifest is applied: {{ .Values.x }} (Helm), ${X} (envsubst, Flux),
// $(X) (kustomize, OpenShift), <x> (documentation), ##X## and #{X}# (pipelines).
var placeholder = regexp.MustCompile(`\{\{[^\n]*?\}\}|\$\{[^{}\s]+\}|\$\([-.\w]+\)|#\{[-.\w]+\}#?|##[-.\w]+##|<[A-Za-z][-. \w]*>`)

// isPlaceholder reports whether the text is one placeholder and nothing else.
func isPlaceholder(text string) bool {
	return text != "" && placeholder.FindString(text) == text
}

// A placeholder is rarely valid YAML where it stands without quotes. So it is parsed as a token of two characters for private use with
// a number between them, which is a plain scalar or a part of one.
const tokenStart, tokenEnd = "\ue000", "\ue001"

var token = regexp.MustCompile(tokenStart + `(\d+)` + tokenEnd)

// hide replaces the placeholders by tokens. A text that has such characters already is not changed.
func hide(data []byte) (hidden []byte, texts []string) {
	if bytes.Contains(data, []byte(tokenStart)) {
		return data, nil
	}
	hidden = placeholder.ReplaceAllFunc(data, func(text []byte) []byte {
		texts = append(texts, string(text))
		return fmt.Appendf(nil, "%s%d%s", tokenStart, len(texts)-1, tokenEnd)
	})
	return hidden, texts
}

// show replaces the tokens by their placeholders.
func show(text string, texts []string) string {
	if len(texts) == 0 {
		return text
	}
	return token.ReplaceAllStringFunc(text, func(t string) string {
		number, err := strconv.Atoi(t[len(tokenStart) : len(t)-len(tokenEnd)])
		if err != nil || number >= len(texts) {
			return t
		}
		return texts[number]
	})
}

// quotePipe is the end of a Helm expression that puts quotes around its value. A value that is carried over gets its quotes from YAML.
var quotePipe = regexp.MustCompile(`\s*\|\s*s?quote\s*(-?\}\})`)

// lower returns the text in lower case, except for its placeholders.
func lower(text string) string {
	var b strings.Builder
	at := 0
	for _, span := range placeholder.FindAllStringIndex(text, -1) {
		b.WriteString(strings.ToLower(text[at:span[0]]) + text[span[0]:span[1]])
		at = span[1]
	}
	return b.String() + strings.ToLower(text[at:])
}

// unquoted removes the quotes that Helm would add.
func unquoted(text string) string { return quotePipe.ReplaceAllString(text, " $1") }

// standIns are the values that stand for placeholders where a volume is checked.
type standIns struct {
	texts  []string // by number
	values []string // pairs for a [strings.Replacer], from value to text
}

// fill replaces the placeholders of an attribute by valid values: GUIDs where the attribute is an id, else five letters, or 32 hexadecimal digits in
// a list of objects, where a placeholder may be a version.
func (s *standIns) fill(attribute, value string) string {
	return placeholder.ReplaceAllStringFunc(value, func(text string) string {
		number := -1
		for i, known := range s.texts {
			if known == text {
				number = i
			}
		}
		if number < 0 {
			number = len(s.texts)
			s.texts = append(s.texts, text)
		}
		filled := fmt.Sprintf("q%02xzq", number) // short, for the 24 letters of a vault, and in no real name
		switch {
		case attribute == volume.AttributeObjects:
			filled = fmt.Sprintf("a%031x", number)
		case attribute == volume.AttributeClientID, attribute == volume.AttributeTenantID, attribute == volume.AttributeObjectID:
			filled = fmt.Sprintf("a%07x-0000-0000-0000-000000000000", number)
		}
		s.values = append(s.values, filled, text)
		return filled
	})
}

// replacer turns the values back into placeholders, for messages.
func (s *standIns) replacer() *strings.Replacer { return strings.NewReplacer(s.values...) }
