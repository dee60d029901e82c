package volume

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one error in the attributes of a volume.
type Problem struct {
	// Field is the attribute and the position in it, written like a Kubernetes field path: "clientID", "secrets[1]",
	// "objects[0].mode", "nodePublishSecretRef[clientid]". Positions begin at 0. In the lists secrets and certificates
	// they count the entries that are not blank.
	Field string

	// Line is the line of the attribute objects, beginning at 1; 0 for other problems.
	Line int

	// Text says what is wrong and what to do, on one line, without any value of a Secret or of a token.
	Text string
}

// String returns the field and the text.
func (p Problem) String() string { return p.Field + ": " + p.Text }

// Attribute returns the volume attribute: Field without the position.
func (p Problem) Attribute() string {
	attribute, _, _ := strings.Cut(p.Field, "[")
	return attribute
}

// Problems are all errors in the attributes of a volume. For errors.Is they are [ErrInvalid].
type Problems []Problem

// maxErrorText bounds the text of an error. It travels in HTTP/2 trailers, for which some gRPC implementations allow
// 8 KiB, and the kubelet cuts an event at 1 KiB.
const maxErrorText = 4096

// Error returns the problems on one line of up to 4 KiB. The end says how many do not fit.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		s := p.String()
		if i > 0 && b.Len()+len(s) > maxErrorText {
			fmt.Fprintf(&b, "; and %d more", len(ps)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(s)
	}
	return b.String()
}

// Unwrap returns [ErrInvalid].
func (ps Problems) Unwrap() error { return ErrInvalid }

// maxProblems bounds the list, so that a hostile pod cannot fill the memory of the driver.
const maxProblems = 1000

func (p *parser) problem(field, format string, args ...any) {
	p.problemAt(0, field, format, args...)
}

func (p *parser) problemAt(line int, field, format string, args ...any) {
	p.found++
	if p.found <= maxProblems {
		p.problems = append(p.problems, Problem{Field: field, Line: line, Text: fmt.Sprintf(format, args...)})
	}
}

// check reports a problem unless it is empty.
func (p *parser) check(field, problem string) (ok bool) {
	if problem != "" {
		p.problem(field, "%s", problem)
	}
	return problem == ""
}

// err returns the problems, or nil if there are none.
func (p *parser) err() error {
	switch {
	case p.found == 0:
		return nil
	case p.found > maxProblems:
		return append(p.problems, Problem{Field: allAttributes, Text: fmt.Sprintf("have %d more problems", p.found-maxProblems)})
	}
	return p.problems
}

// maxQuoted bounds how much of a user's text an error repeats, in bytes.
const maxQuoted = 64

// quote makes a user's text safe for an error: bounded, on one line, and in ASCII, which shows letters of other
// alphabets that look like Latin ones.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.QuoteToASCII(s)
	}
	cut := maxQuoted
	for cut > maxQuoted-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "..."
}

// asField makes a user's key safe for Problem.Field. Harmless keys are not quoted.
func asField(key string) string {
	harmless := func(r rune) bool { return isAlphanumeric(r) || strings.ContainsRune("-._/", r) }
	if key == "" || len(key) > maxQuoted || strings.ContainsFunc(key, func(r rune) bool { return !harmless(r) }) {
		return quote(key)
	}
	return key
}

// reader reads values by name: the attributes of a volume, or the fields of a YAML mapping.
type reader interface {
	text(name string) (text string, given bool)
	problem(name, format string, args ...any)
}

// choice reads one of the values. The first is the default.
func choice[T ~string](r reader, name string, values ...T) T {
	text, given := r.text(name)
	if !given {
		return values[0]
	}
	if !slices.Contains(values, T(text)) {
		r.problem(name, "%s must be %s", quote(text), alternatives(values))
	}
	return T(text)
}

// alternatives lists two or more values for an error: "a, b or c".
func alternatives[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = string(value)
	}
	last := len(texts) - 1
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}
