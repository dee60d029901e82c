package values

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Field is what a JSON Pointer finds in a JSON value. It is a part of that value and not a copy: if pointers lead to fields
// within each other, copies would be many times as large as the value.
type Field struct {
	Err error // such as [ErrNoField] and [ErrTwice]; it says how far the pointer leads
	raw []byte
}

// IsString reports whether the field is a string.
func (f Field) IsString() bool { return len(f.raw) > 0 && f.raw[0] == '"' }

// Data returns the content of a file: a string as it is, everything else as compact JSON with its digits and its order.
func (f Field) Data() ([]byte, error) {
	if f.Err != nil {
		return nil, f.Err
	}
	if !f.IsString() {
		var compact bytes.Buffer
		if err := json.Compact(&compact, f.raw); err != nil {
			return nil, ErrNotJSON
		}
		return compact.Bytes(), nil
	}
	var text string
	if err := json.Unmarshal(f.raw, &text); err != nil {
		return nil, ErrNotJSON
	}
	if strings.ContainsRune(text, utf8.RuneError) && halfSurrogate(f.raw) {
		return nil, errSurrogate
	}
	return []byte(text), nil
}

// ErrNotJSON is a value that is not JSON. The errors of encoding/json quote the value.
var ErrNotJSON = errors.New("is not JSON")

// The kinds of errors of a pointer that leads to no field, or, because a name is there twice, to more than one. Readers of
// JSON disagree about which one counts.
var (
	ErrNoField = errors.New("no such field")
	ErrTwice   = errors.New("two such fields")
)

// Find returns what pointers (RFC 6901), all of them valid, find in a JSON value. The value is read once for each level
// that a pointer enters, however many pointers there are, and no level beyond is kept. So the work is bounded by the
// lengths of the value and of the pointers.
//
// The error is [ErrNotJSON]. A member that is there twice is an error only of a pointer that goes through it.
func Find(value []byte, pointers []string) ([]Field, error) {
	raw := bytes.Trim(value, " \t\r\n")
	if !utf8.Valid(raw) || !json.Valid(raw) { // encoding/json would replace what is not UTF-8
		return nil, ErrNotJSON
	}
	found := make(map[string]*Field, len(pointers)) // each once
	var targets []target
	for _, pointer := range pointers {
		if found[pointer] == nil {
			found[pointer] = &Field{}
			targets = append(targets, target{pointer: pointer, rest: pointer, field: found[pointer]})
		}
	}
	find(raw, targets)
	fields := make([]Field, len(pointers))
	for i, pointer := range pointers {
		fields[i] = *found[pointer]
	}
	return fields, nil
}

// target is a pointer on its way through a value.
type target struct {
	pointer string // all of it
	rest    string // that is to go
	field   *Field
}

// here is the part of the pointer that has been followed.
func (t target) here() string { return t.pointer[:len(t.pointer)-len(t.rest)] }

// next splits the first reference token off the rest.
func (t target) next() (token string, after target) {
	token, after = t.rest[1:], t
	end := strings.IndexByte(token, '/')
	if end < 0 {
		end = len(token)
	}
	token, after.rest = token[:end], token[end:]
	return strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~"), after
}

// lost is an error that says how far a pointer got.
type lost struct {
	kind    error
	at, why string
}

func (l *lost) Error() string {
	if l.at == "" {
		return "the value " + l.why
	}
	return strconv.QuoteToASCII(l.at) + " " + l.why
}

// Unwrap returns ErrNoField or ErrTwice.
func (l *lost) Unwrap() error { return l.kind }

// find fills the fields of the targets that lead from raw, a valid JSON value.
func find(raw []byte, targets []target) {
	wanted := map[string][]target{} // by the next token
	for _, t := range targets {
		if t.rest == "" {
			t.field.raw = raw
			continue
		}
		token, after := t.next()
		wanted[token] = append(wanted[token], after)
	}
	if len(wanted) == 0 {
		return
	}
	found := map[string][]byte{}
	twice := map[string]bool{}
	visit := func(token string, member []byte) {
		if _, ok := wanted[token]; ok {
			_, again := found[token]
			found[token], twice[token] = member, again
		}
	}
	if raw[0] == '{' || raw[0] == '[' {
		members(raw, visit)
	}
	for token, targets := range wanted {
		member, ok := found[token]
		switch {
		case ok && !twice[token]:
			find(member, targets)
		case ok:
			fail(targets, func(t target) error { return &lost{ErrTwice, t.here(), "is there twice"} })
		default:
			fail(targets, func(t target) error { return missing(raw[0], t, token) })
		}
	}
}

func fail(targets []target, why func(target) error) {
	for _, t := range targets {
		t.field.Err = why(t)
	}
}

// missing says why a value has no member of this name, which is the last one that the target has taken.
func missing(first byte, t target, token string) error {
	at := t.here()
	at = at[:strings.LastIndexByte(at, '/')]
	switch first {
	case '{':
		return &lost{ErrNoField, at, "has no member " + strconv.QuoteToASCII(token)}
	case '[':
		return &lost{ErrNoField, at, "is an array without an element " + strconv.QuoteToASCII(token)}
	case '"':
		return &lost{ErrNoField, at, "is a string"}
	case 't', 'f':
		return &lost{ErrNoField, at, "is a boolean"}
	case 'n':
		return &lost{ErrNoField, at, "is null"}
	default:
		return &lost{ErrNoField, at, "is a number"}
	}
}

// members calls visit for the members of a JSON object, or the elements of an array with their indices, as parts of raw.
func members(raw []byte, visit func(string, []byte)) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	_, _ = decoder.Token() // the bracket; raw is valid
	for i := 0; decoder.More(); i++ {
		name := ""
		if raw[0] == '[' {
			name = strconv.Itoa(i)
		} else if token, err := decoder.Token(); err == nil {
			name = token.(string)
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return
		}
		end := int(decoder.InputOffset())
		visit(name, raw[end-len(value):end])
	}
}

// errSurrogate is a string that has no form in UTF-8.
var errSurrogate = errors.New("is a string with half of a surrogate pair")

// halfSurrogate reports whether a JSON string has a \u escape of a surrogate that is not followed by, or does not follow,
// its other half. encoding/json replaces it.
func halfSurrogate(raw []byte) bool {
	surrogate := func(i int, kinds string) bool { // is there \uD[kinds]..?
		return i+4 < len(raw) && raw[i] == '\\' && raw[i+1] == 'u' && raw[i+2]|0x20 == 'd' && strings.IndexByte(kinds, raw[i+3]|0x20) >= 0
	}
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] != '\\':
		case surrogate(i, "89ab"):
			if !surrogate(i+6, "cdef") {
				return true
			}
			i += 11
		case surrogate(i, "cdef"):
			return true
		default:
			i++ // the escaped character, which may be a backslash
		}
	}
	return false
}
