package values

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Entry is one value of a file. The caller has checked the name: it has no control characters, and in an env file it is
// that of a variable.
type Entry struct {
	Name string
	Data []byte
}

// Unwritable is the error of a value that a file cannot hold.
type Unwritable struct {
	Entry int // its index
	Why   string
}

// Error returns what the value has that the file cannot hold.
func (u *Unwritable) Error() string { return u.Why }

// maxLine is the longest line that fileKeyRef reads, without its line feed: the kubelet uses a bufio.Scanner.
const maxLine = 64<<10 - 1

// maxVariable is the length in bytes of NAME=value that Linux passes to a program: MAX_ARG_STRLEN of execve(2), without the NUL.
const maxVariable = 128<<10 - 1

// Env writes a file of NAME='value' lines, which ". file" of a POSIX shell and fileKeyRef of Kubernetes 1.35 and newer
// read alike. In single quotes both take everything as it is, line feeds too. What they do not read, or not alike, is an
// error, which is [*Unwritable]:
//
//   - a single quote ends the value: the shell could go on, fileKeyRef does not,
//   - NUL cannot be in an environment,
//   - fileKeyRef takes an empty value for an absent one,
//   - fileKeyRef reads a carriage return and a line feed as a line feed,
//   - the kubelet passes variables on as strings of Protocol Buffers, which are UTF-8,
//   - the kubelet does not read a longer line than [maxLine],
//   - Linux starts no program with a longer variable than [maxVariable].
//
// Like [JSON] and [Properties] it writes entry by entry, because escapes can make a file several times as large as its values:
// an error of w ends it before there is more in memory than the next entry.
func Env(w io.Writer, entries []Entry) error {
	var b bytes.Buffer
	for i, e := range entries {
		if why := notEnv(e); why != "" {
			return &Unwritable{i, why}
		}
		fmt.Fprintf(&b, "%s='%s'\n", e.Name, e.Data)
		for line := range bytes.SplitSeq(b.Bytes(), []byte("\n")) {
			if len(line) > maxLine {
				return &Unwritable{i, "it has a line of 64 KiB, which Kubernetes does not read"}
			}
		}
		if _, err := b.WriteTo(w); err != nil {
			return err
		}
	}
	return nil
}

func notEnv(e Entry) string {
	switch {
	case len(e.Data) == 0:
		return "it is empty, which Kubernetes takes for absent"
	case bytes.IndexByte(e.Data, '\'') >= 0:
		return "it has a single quote, which the format cannot express"
	case bytes.IndexByte(e.Data, 0) >= 0:
		return "it has a NUL, which no variable can have"
	case bytes.Contains(e.Data, []byte("\r\n")):
		return "it has a carriage return before a line feed, which Kubernetes drops"
	case !utf8.Valid(e.Data):
		return notUTF8
	case len(e.Name)+len("=")+len(e.Data) > maxVariable:
		return "it is longer than a variable can be on Linux, which is 131071 bytes with its name"
	}
	return ""
}

const notUTF8 = "it is not UTF-8"

// JSON writes a file with one JSON object, whose members are strings in the order of the entries. A value that is not
// UTF-8 is an error, which is [*Unwritable].
func JSON(w io.Writer, entries []Entry) error {
	var b bytes.Buffer
	b.WriteString("{")
	for i, e := range entries {
		if !utf8.Valid(e.Data) {
			return &Unwritable{i, notUTF8}
		}
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n  ")
		writeJSON(&b, e.Name)
		b.WriteString(": ")
		writeJSON(&b, string(e.Data))
		if _, err := b.WriteTo(w); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	_, err := b.WriteTo(w)
	return err
}

// writeJSON writes a JSON string without the escapes for HTML.
func writeJSON(b *bytes.Buffer, s string) {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s)   // a string has no error
	b.Truncate(b.Len() - 1) // the line feed of Encode
}

// Properties writes a file for java.util.Properties. It is ASCII, so that readers of ISO 8859-1 (Properties.load of an
// InputStream) and of UTF-8 read the same. A value that is not UTF-8 is an error, which is [*Unwritable].
func Properties(w io.Writer, entries []Entry) error {
	var b bytes.Buffer
	for i, e := range entries {
		if !utf8.Valid(e.Data) {
			return &Unwritable{i, notUTF8}
		}
		writeProperty(&b, e.Name, " =:#!")
		b.WriteString("=")
		blanks := len(e.Data) - len(bytes.TrimLeft(e.Data, " "))
		writeProperty(&b, string(e.Data[:blanks]), " ") // a reader skips blanks before a value
		writeProperty(&b, string(e.Data[blanks:]), "")
		b.WriteString("\n")
		if _, err := b.WriteTo(w); err != nil {
			return err
		}
	}
	return nil
}

// writeProperty writes a text with the escapes of java.util.Properties, and with those of the ASCII characters in special.
func writeProperty(b *bytes.Buffer, text, special string) {
	for _, r := range text {
		switch {
		case r == '\\' || strings.ContainsRune(special, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\f':
			b.WriteString(`\f`)
		case ' ' <= r && r <= '~':
			b.WriteRune(r)
		default:
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(b, `\u%04X`, unit)
			}
		}
	}
}
