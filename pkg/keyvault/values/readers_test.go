package values_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
)

// written returns what a function writes.
func written(write func(io.Writer, []values.Entry) error, entries []values.Entry) ([]byte, error) {
	var b bytes.Buffer
	if err := write(&b, entries); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// This file has readers of the formats, written from their rules and not from the writers.

// fileKeyRef reads a variable as the kubelet does (KEP-3721, Kubernetes 1.35 to 1.37): line by line, a value in single
// quotes over any number of lines. A line of 64 KiB with its line feed is the longest. A carriage return before a line feed
// belongs to the line end. The empty string means that there is no such variable.
func fileKeyRef(file, key string) (string, error) {
	var lines []string
	for rest := file; rest != ""; {
		line, after, _ := strings.Cut(rest, "\n")
		if len(line) >= 64<<10 {
			return "", errors.New("a line is too long")
		}
		lines, rest = append(lines, strings.TrimSuffix(line, "\r")), after
	}
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found || name == "" || strings.TrimRight(name, " \t") != name {
			return "", fmt.Errorf("line %d: no name", i+1)
		}
		quoted, found := strings.CutPrefix(value, "'")
		if !found {
			return "", fmt.Errorf("line %d: no single quote", i+1)
		}
		for !strings.Contains(quoted, "'") {
			if i++; i == len(lines) {
				return "", errors.New("the quote is not closed")
			}
			quoted += "\n" + lines[i]
		}
		content, behind, _ := strings.Cut(quoted, "'")
		if behind = strings.TrimLeft(behind, " \t"); behind != "" && behind[0] != '#' {
			return "", fmt.Errorf("line %d: more behind the quote", i+1)
		}
		if name == key {
			return content, nil
		}
	}
	return "", nil
}

// properties reads a file as the documentation of java.util.Properties.load(Reader) says.
func properties(file string) (map[string]string, error) {
	all := map[string]string{}
	for line := range logicalLines(file) {
		end := 0 // of the key: the first separator that is not escaped
		for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
			if line[end] == '\\' {
				end++
			}
			end++
		}
		key, value := line[:min(end, len(line))], strings.TrimLeft(line[min(end, len(line)):], " \t\f")
		if value != "" && (value[0] == '=' || value[0] == ':') {
			value = strings.TrimLeft(value[1:], " \t\f")
		}
		key, err := unescape(key)
		if err != nil {
			return nil, err
		}
		if value, err = unescape(value); err != nil {
			return nil, err
		}
		all[key] = value
	}
	return all, nil
}

// logicalLines yields the lines without leading white space, comments and blank lines, and joins those that a backslash
// continues.
func logicalLines(file string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		natural := strings.FieldsFunc(file, func(r rune) bool { return r == '\n' || r == '\r' })
		for i := 0; i < len(natural); i++ {
			line := strings.TrimLeft(natural[i], " \t\f")
			if line == "" || line[0] == '#' || line[0] == '!' {
				continue
			}
			for (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1 {
				line = line[:len(line)-1]
				if i++; i < len(natural) {
					line += strings.TrimLeft(natural[i], " \t\f")
				}
			}
			if !yield(line) {
				return
			}
		}
	}
}

func unescape(text string) (string, error) {
	var units []uint16
	for i := 0; i < len(text); i++ {
		if text[i] >= 0x80 {
			return "", errors.New("is not ASCII, which readers of ISO 8859-1 and UTF-8 read differently")
		}
		if text[i] != '\\' || i+1 == len(text) {
			units = append(units, uint16(text[i]))
			continue
		}
		i++
		switch text[i] {
		case 't', 'n', 'r', 'f':
			units = append(units, uint16("\t\n\r\f"[strings.IndexByte("tnrf", text[i])]))
		case 'u':
			unit, err := strconv.ParseUint(text[i+1:min(i+5, len(text))], 16, 16)
			if err != nil || i+5 > len(text) {
				return "", errors.New("a malformed \\u escape")
			}
			units = append(units, uint16(unit))
			i += 4
		default:
			units = append(units, uint16(text[i]))
		}
	}
	return string(utf16.Decode(units)), nil
}

// shells are the shells that read env files, with their arguments.
func shells() [][]string {
	return [][]string{{"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"}}
}

// source reads a file with ". file" in a shell, and returns the environment of the commands that it would start.
func source(t *testing.T, shell []string, file []byte) map[string]string {
	t.Helper()
	if _, err := exec.LookPath(shell[0]); err != nil {
		t.Skipf("%s is not installed", shell[0])
	}
	path := filepath.Join(t.TempDir(), "app.env")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	// AFTER shows that the shell has read to the end, and that nothing was left open.
	script := `set -a; . "$0"; AFTER=1; exec /usr/bin/env -0`
	command := exec.CommandContext(t.Context(), shell[0], append(shell[1:len(shell):len(shell)], "-c", script, path)...)
	command.Env = []string{"PATH=/usr/bin:/bin"}
	var complaints strings.Builder
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("%q: %v, %s", shell, err, complaints.String())
	}
	all := map[string]string{}
	for pair := range strings.SplitSeq(string(out), "\x00") {
		if name, value, found := strings.Cut(pair, "="); found {
			all[name] = value
		}
	}
	if all["AFTER"] != "1" {
		t.Fatalf("%q did not read to the end", shell)
	}
	return all
}

// javaProgram prints what Properties.load reads from an InputStream and from a Reader of UTF-8, as hexadecimal UTF-8.
const javaProgram = `
import java.io.*; import java.nio.charset.StandardCharsets; import java.util.*;
public class Read {
  static String hex(String s) {
    StringBuilder b = new StringBuilder("x");
    for (byte c : s.getBytes(StandardCharsets.UTF_8)) b.append(String.format("%02x", c));
    return b.toString();
  }
  public static void main(String[] args) throws IOException {
    Properties stream = new Properties(), reader = new Properties();
    try (InputStream in = new FileInputStream(args[0])) { stream.load(in); }
    try (Reader in = new InputStreamReader(new FileInputStream(args[0]), StandardCharsets.UTF_8)) { reader.load(in); }
    if (!stream.equals(reader)) throw new IOException("the two readers differ");
    for (String name : stream.stringPropertyNames()) System.out.println(hex(name) + " " + hex(stream.getProperty(name)));
  }
}
`

// javaProperties reads a file with Java itself.
func javaProperties(t *testing.T, file []byte) map[string]string {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("java is not installed")
	}
	folder := t.TempDir()
	program, path := filepath.Join(folder, "Read.java"), filepath.Join(folder, "app.properties")
	for name, content := range map[string][]byte{program: []byte(javaProgram), path: file} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), java, program, path).Output()
	if err != nil {
		t.Fatalf("java: %v", err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(out)) {
		var name, value string
		if _, err := fmt.Sscanf(strings.ReplaceAll(strings.TrimSpace(line), "x", ""), "%x %x", &name, &value); err != nil {
			key, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if _, err := fmt.Sscanf(key, "x%x", &name); err != nil { // the value is empty
				t.Fatalf("java printed %q", line)
			}
		}
		all[name] = value
	}
	return all
}
