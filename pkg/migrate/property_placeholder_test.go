package migrate_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// placeholder is a text that another tool replaces before the manifest is applied: of Helm, of a shell, of a pipeline, of a reader.
var placeholder = regexp.MustCompile(`\{\{[^{}]*\}\}|\$\{[^{}]*\}|\$\([^()]*\)|#\{[^{}]*\}#|##\w+##|<[A-Za-z][-\w. ]*>`)

var keyBefore = regexp.MustCompile(`(\w+)["']?\s*:[^:]*$`)

// placeholderValues are the values that stand for placeholders in the fields where not every text may stand. None is the value that an
// absent field has, so that a lost field is found.
var placeholderValues = map[string]string{
	"clientID":               "00000000-0000-4000-8000-00000000000N",
	"cloudName":              "AzureChinaCloud",
	"filePermission":         "0400",
	"objectEncoding":         "hex",
	"objectFormat":           "pfx",
	"objectType":             "key",
	"objectVersion":          "a000000000000000000000000000000N",
	"objectVersionHistory":   "3",
	"readOnly":               "true",
	"tenantID":               "00000000-0000-4000-9000-00000000000N",
	"tenantId":               "00000000-0000-4000-9000-00000000000N",
	"usePodIdentity":         "true",
	"useVMManagedIdentity":   "true",
	"userAssignedIdentityID": "00000000-0000-4000-8000-00000000000N",
}

// filler returns a function that replaces the placeholders of a manifest, and the same placeholders in the result of
// its migration.
func filler(data []byte) func([]byte) []byte {
	values := map[string]string{}
	for _, found := range placeholder.FindAllIndex(data, -1) {
		text := withoutQuotes(data[found[0]:found[1]])
		if values[text] != "" {
			continue
		}
		number := strconv.Itoa(len(values))
		line := data[bytes.LastIndexByte(data[:found[0]], '\n')+1 : found[0]]
		value := "phN"
		if key := keyBefore.FindSubmatch(line); len(key) > 1 && placeholderValues[string(key[1])] != "" {
			value = placeholderValues[string(key[1])]
		} else if strings.Contains(strings.ToLower(text), "client") { // a variable of an agent
			value = placeholderValues["clientID"]
		}
		values[text] = strings.ReplaceAll(value, "N", number[len(number)-1:])
	}
	return func(text []byte) []byte {
		return placeholder.ReplaceAllFunc(text, func(found []byte) []byte {
			if value, known := values[withoutQuotes(found)]; known {
				return []byte(value)
			}
			return found
		})
	}
}

// withoutQuotes removes the blanks and the function quote from a placeholder: "{{ x | quote }}" and "{{ x }}" have the
// same value.
func withoutQuotes(text []byte) string {
	return quotes.ReplaceAllString(string(text), "")
}

var quotes = regexp.MustCompile(`\s|\|\s*s?quote`)

// tokens returns a manifest with words in the place of its placeholders, which may be no YAML, and a function that puts the
// placeholders back.
func tokens(data []byte) ([]byte, func([]byte) []byte) {
	var texts [][]byte
	const token = "PlaceHolder%dX"
	words := placeholder.ReplaceAllFunc(data, func(found []byte) []byte {
		texts = append(texts, found)
		return fmt.Appendf(nil, token, len(texts)-1)
	})
	return words, func(text []byte) []byte {
		for i, found := range texts {
			text = bytes.ReplaceAll(text, fmt.Appendf(nil, token, i), found)
		}
		return text
	}
}

// The values of placeholders are of the kind of their fields, in the input and in what was made from it.
func TestPlaceholders(t *testing.T) {
	t.Parallel()
	const text = `a: {keyvaultName: "${VAULT}", clientID: {{ .Values.id }}, tenantId: <tenant>, objectType: $(X)}
# ##VAULT## stays #{VAULT}#
`
	fill := filler([]byte(text))
	const want = `a: {keyvaultName: "ph0", clientID: 00000000-0000-4000-8000-000000000001, tenantId: 00000000-0000-4000-9000-000000000002, objectType: key}
# ph4 stays ph5
`
	if got := string(fill([]byte(text))); got != want {
		t.Errorf("filled:\n%s", got)
	}
	if got := string(fill([]byte("https://${VAULT}.vault.azure.net ${OTHER}"))); got != "https://ph0.vault.azure.net ${OTHER}" {
		t.Errorf("filled: %s", got)
	}
	words, restore := tokens([]byte(text))
	if bytes.ContainsAny(words, "$<") || string(restore(words)) != text {
		t.Errorf("words:\n%s", words)
	}
}
