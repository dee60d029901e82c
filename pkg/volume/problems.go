package volume

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a volume's attributes.
type Problem struct {
	// Field is the attribute and the position in it, zero-based and written like a Kubernetes field path: "clientID",
	// "secrets[1]", "objects[0].mode", "nodePublishSecretRef[clientid]". Positions in the lists secrets and
	// certificates count the entries that are not blank.
	Field string

	// Line is the line of the attribute objects, from 1 on; 0 for problems elsewhere.
	Line int

	// Text says what is wrong and what to do, on one line, without any value of a Secret or of a token.
	Text string
}

// String is the field and the text.
func (p Problem) String() string { return p.Field + ": " + p.Text }

// Attribute is the volume attribute that the problem is about: Field without the position.
func (p Problem) Attribute() string {
	if i := strings.IndexByte(p.Field, '['); i >= 0 {
		return p.Field[:i]
	}
	return p.Field
}

// Problems is everything that is wrong with a volume's attributes, in an order that depends on the attributes alone.
// It is [ErrInvalid] by errors.Is; errors.As gives the list itself.
type Problems []Problem

// maxErrorText bounds the text of all problems. The text travels in HTTP/2 trailers, for which some gRPC
// implementations allow 8 KiB, and the kubelet cuts an event at 1 KiB anyway.
const maxErrorText = 4096

// Error is all problems on one line, up to 4 KiB of text; how many were left out, if any, stands at the end.
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

// Unwrap makes the list ErrInvalid.
func (ps Problems) Unwrap() error { return ErrInvalid }

// maxProblems bounds the list: nobody reads on, and a hostile pod must not fill the memory of the node's driver.
const maxProblems = 1000

// collector gathers the problems of one volume.
type collector struct {
	list  Problems
	found int // how many there are, also of those that are not in the list
}

func (c *collector) problem(field, format string, args ...any) {
	c.problemAt(0, field, format, args...)
}

func (c *collector) problemAt(line int, field, format string, args ...any) {
	c.found++
	if c.found <= maxProblems {
		c.list = append(c.list, Problem{Field: field, Line: line, Text: fmt.Sprintf(format, args...)})
	}
}

// err is the list as an error, nil when it is empty.
func (c *collector) err() error {
	switch {
	case c.found == 0:
		return nil
	case c.found > maxProblems:
		return append(c.list, Problem{Field: allAttributes, Text: fmt.Sprintf("have %d more problems", c.found-maxProblems)})
	}
	return c.list
}

// maxQuoted bounds how much of a user's text an error repeats.
const maxQuoted = 64

// quote makes a user's text fit for an error: on one line, in ASCII (which shows letters that only look right),
// bounded.
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

// asField is a key that a user wrote, as part of a Problem's Field: as it is when it is harmless, else quoted.
func asField(key string) string {
	if key == "" || len(key) > maxQuoted {
		return quote(key)
	}
	for _, c := range []byte(key) {
		if !isAlphanumeric(c) && !strings.ContainsRune("-._/", rune(c)) {
			return quote(key)
		}
	}
	return key
}

func isAlphanumeric[C byte | rune](c C) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
