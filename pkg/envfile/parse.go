// Package envfile reads files of environment variables in the grammar that Kubernetes' fileKeyRef (KEP-3721) and the command `. FILE` of a
// POSIX shell both read, with the same values. Whatever one of them refuses, or the two read differently, is an error:
//
//	# a comment, or an empty line
//	NAME='value'
//	OTHER='a value that
//	spans lines'   # a comment after a blank
//
// A value is every byte between two single quotes: there is no escape and no expansion, so no value holds a single quote.
//
// The package must not know where a text comes from.
package envfile

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Variable is one variable of a file. Its value is secret.
type Variable struct {
	Name, Value string
}

// MaxVariable is the length in bytes of NAME=value that Linux passes to a program: MAX_ARG_STRLEN of execve(2), without the NUL.
const MaxVariable = 128<<10 - 1

const blanks = " \t"

// Parse returns the variables in the order of the text. Its error begins with the number of a line and never contains a part of the text,
// but the name of a variable that is complete.
func Parse(text string) ([]Variable, error) {
	if err := checkBytes(text); err != nil {
		return nil, err
	}
	var variables []Variable
	lines := map[string]int{} // of the names
	for number, rest := 1, text; rest != ""; {
		rest = strings.TrimLeft(rest, blanks)
		line, after, _ := strings.Cut(rest, "\n")
		if line == "" || line[0] == '#' {
			rest = after
			number++
			continue
		}
		variable, length, err := assignment(rest)
		if err == nil {
			err = checkVariable(variable, lines)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		lines[variable.Name] = number
		variables = append(variables, variable)
		number += strings.Count(rest[:length], "\n")
		rest = rest[length:]
	}
	return variables, nil
}

// checkBytes finds what at least one of the readers does not pass on as it is.
func checkBytes(text string) error {
	for number, rest := 1, text; rest != ""; number++ {
		line, after, found := strings.Cut(rest, "\n")
		problem := ""
		switch {
		case strings.HasSuffix(line, "\r"): // Kubernetes drops it, a shell does not
			problem = "it ends with a carriage return; save the file with the line ends of Unix"
		case strings.Contains(line, "\x00"):
			problem = "it contains a NUL, which no environment variable can hold"
		case !utf8.ValidString(line): // Kubernetes passes variables to the container runtime as UTF-8
			problem = "it is not UTF-8"
		}
		if problem != "" {
			return fmt.Errorf("line %d: %s", number, problem)
		}
		if rest = after; !found {
			break
		}
	}
	return nil
}

// assignment reads one variable, and returns how long it is with the rest of its last line.
func assignment(text string) (v Variable, length int, err error) {
	line, _, _ := strings.Cut(text, "\n")
	name, value, found := strings.Cut(line, "=")
	switch {
	case !found:
		return v, 0, errors.New("there is no '='; write NAME='value', or put a '#' before a comment")
	case name != strings.TrimRight(name, blanks):
		return v, 0, errors.New("there is a blank before the '='; remove it")
	case !isName(name):
		return v, 0, errors.New("the name is not one of a shell; write NAME='value', with a name of letters, digits and underscores")
	}
	v.Name = name
	if after := strings.TrimLeft(value, blanks); after != value {
		if after != "" && after[0] != '#' { // Kubernetes reads an empty value; a shell runs the value as a command
			return v, 0, errors.New("there is a blank after the '='; remove it")
		}
		return v, min(len(line)+1, len(text)), nil
	}
	if !strings.HasPrefix(value, "'") {
		return v, 0, errors.New("the value is not in single quotes; write NAME='value'")
	}
	start := len(name) + len("='")
	v.Value, _, found = strings.Cut(text[start:], "'")
	if !found {
		return v, 0, errors.New("the single quote at the begin of the value is never closed")
	}
	end := start + len(v.Value) + len("'")
	line, _, _ = strings.Cut(text[end:], "\n")
	switch after := strings.TrimLeft(line, blanks); {
	case strings.HasPrefix(line, "#"): // a comment for Kubernetes, a part of the value for a shell
		return v, 0, errors.New("there is no blank between the value and the '#'; add one before a comment")
	case after != "" && after[0] != '#':
		return v, 0, errors.New("there is something after the closing quote; a value cannot contain a single quote")
	}
	return v, min(end+len(line)+1, len(text)), nil
}

// checkVariable checks a variable that is complete, so that an error may name it. lines has the earlier ones.
func checkVariable(v Variable, lines map[string]int) error {
	if before, found := lines[v.Name]; found { // Kubernetes takes the first, a shell the last
		return fmt.Errorf("%s is already in line %d; remove one of the two", v.Name, before)
	}
	if length := len(v.Name) + len("=") + len(v.Value); length > MaxVariable {
		return fmt.Errorf("%s is too long: NAME=value has %d bytes, and Linux passes at most %d to a program", v.Name, length, MaxVariable)
	}
	return nil
}

// isName reports whether a shell can assign to the name (POSIX.1-2024, Base Definitions, 3.216). Kubernetes allows more.
func isName(name string) bool {
	for i, c := range []byte(name) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
