package values_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
)

// awkward are values that a careless writer would write wrong.
func awkward() map[string]string {
	return map[string]string{
		"plain": "hunter2", "blanks": "  a  b  ", "tab": "\ta\t", "dollar": "$HOME ${PATH} $(id) `id`", "backslash": `a\b\\n\`,
		"double": `"quoted"`, "lines": "first\nsecond\n\nlast", "trailing": "value\n", "leading": "\nvalue", "blank": " ", "feed": "\n",
		"cr": "a\rb\r", "comment": "# no comment", "equals": "=a=b:c!d#e", "semicolon": "a; reboot & exit | cat > /dev/null",
		"pem":   "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
		"utf-8": "pässwörd ✓ 日本語 😀", "mark": "\ufeffvalue", "separators": "a\u2028b\u2029c\u0085d", "replacement": "\ufffd",
		"glob": "* ? [a-z] {a,b} ~", "history": "a!b !! !$", "continued": "a\\\nb", "html": "<a href=\"x\">&amp;</a>",
		"assignment": "x\nPATH=/tmp\nexport LD_PRELOAD=x\n", "formfeed": "\fa\f", "escape": `\u0041 \t \x41`,
		"long": strings.Repeat("x", 25<<10), "control": "\x01\x02\x1b[31m\x7f",
	}
}

// hard are the awkward values, and each of the first characters of Unicode alone and between others.
func hard() map[string]string {
	all := awkward()
	for r := rune(1); r < 0x250; r++ {
		if r != '\'' {
			all[fmt.Sprintf("r%x", r)] = "a" + string(r) + "b"
			all[fmt.Sprintf("s%x", r)] = string(r)
		}
	}
	return all
}

// entriesOf returns the entries of a file, with names that are variables.
func entriesOf(all map[string]string) (entries []values.Entry, named map[string]string) {
	named = map[string]string{}
	for key, value := range all {
		name := "V_" + strings.ReplaceAll(key, "-", "_")
		named[name] = value
		entries = append(entries, values.Entry{Name: name, Data: []byte(value)})
	}
	return entries, named
}

// compare reports entries that were read with another value.
func compare(t *testing.T, want, got map[string]string) {
	t.Helper()
	for name, value := range want {
		if read, ok := got[name]; !ok || read != value {
			t.Errorf("%s is %q, want %q", name, read, value)
		}
	}
}

// Every reader of an env file reads what was written.
func TestEnv(t *testing.T) {
	t.Parallel()
	entries, want := entriesOf(hard())
	file, err := written(values.Env, entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("fileKeyRef", func(t *testing.T) {
		t.Parallel()
		got := map[string]string{}
		for name := range want {
			if got[name], err = fileKeyRef(string(file), name); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		compare(t, want, got)
	})
	for _, shell := range shells() {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			compare(t, want, source(t, shell, file))
		})
	}
}

func TestEnvText(t *testing.T) {
	t.Parallel()
	file, err := written(values.Env, []values.Entry{{Name: "B", Data: []byte("2\n3")}, {Name: "A", Data: []byte(`"$x"`)}})
	if want := "B='2\n3'\nA='\"$x\"'\n"; err != nil || string(file) != want {
		t.Errorf("%q, %v", file, err)
	}
	if file, err := written(values.Env, nil); err != nil || len(file) != 0 {
		t.Errorf("%q, %v", file, err)
	}
}

// What a reader would not read as it was is refused, and the reader shows why.
func TestEnvRefuses(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", 64<<10-1-len("NAME=''"))
	most := strings.Repeat("x\n", 64<<10)[:128<<10-1-len("NAME=")]
	for _, row := range []struct{ name, value, want string }{
		{"empty", "", "it is empty, which Kubernetes takes for absent"},
		{"quote", "it's", "it has a single quote, which the format cannot express"},
		{"only a quote", "'", "it has a single quote, which the format cannot express"},
		{"injection", "'; reboot; '", "it has a single quote, which the format cannot express"},
		{"NUL", "a\x00b", "it has a NUL, which no variable can have"},
		{"CRLF", "a\r\nb", "it has a carriage return before a line feed, which Kubernetes drops"},
		{"CRLF at the end", "a\r\n", "it has a carriage return before a line feed, which Kubernetes drops"},
		{"Latin-1", "p\xe4ssword", "it is not UTF-8"},
		{"surrogate", "\xed\xa0\x80", "it is not UTF-8"},
		{"long line", longest + "x", "it has a line of 64 KiB, which Kubernetes does not read"},
		{"long second line", "a\n" + strings.Repeat("x", 64<<10) + "\n", "it has a line of 64 KiB, which Kubernetes does not read"},
		{"long variable", most + "x", "it is longer than a variable can be on Linux, which is 131071 bytes with its name"},
		{"longest variable", most, ""},
		{"longest", longest, ""},
		{"longest line", "a\n" + strings.Repeat("x", 64<<10-1) + "\n", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			file, err := written(values.Env, []values.Entry{{Name: "FIRST", Data: []byte("1")}, {Name: "NAME", Data: []byte(row.value)}})
			if row.want == "" {
				if got, readErr := fileKeyRef(string(file), "NAME"); err != nil || readErr != nil || got != row.value {
					t.Errorf("%v, %v, or another value", err, readErr)
				}
				return
			}
			var unwritable *values.Unwritable
			if !errors.As(err, &unwritable) || unwritable.Entry != 1 || err.Error() != row.want || file != nil {
				t.Errorf("%v, want %s", err, row.want)
			}
			if !utf8.ValidString(row.value) || strings.Contains(row.value, "\x00") || len(row.value) > len(most) {
				return // the reader could, but no environment
			}
			if read, err := fileKeyRef("NAME='"+row.value+"'\n", "NAME"); err == nil && read == row.value && read != "" {
				t.Error("the kubelet would read it")
			}
		})
	}
}

// JSON is what encoding/json reads.
func TestJSON(t *testing.T) {
	t.Parallel()
	all := hard()
	all["empty"], all["NUL"], all["quote"], all["CRLF"] = "", "a\x00b", "it's", "a\r\nb"
	entries, want := entriesOf(all)
	file, err := written(values.JSON, entries)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(file, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJSONText(t *testing.T) {
	t.Parallel()
	for want, entries := range map[string][]values.Entry{
		"{}\n":                   nil,
		"{\n  \"a\": \"1\"\n}\n": {{Name: "a", Data: []byte("1")}},
		"{\n  \"z\": \"<&>\",\n  \"a \\\"b\\\"\": \"\\u2028\\n\"\n}\n": {{Name: "z", Data: []byte("<&>")}, {Name: `a "b"`, Data: []byte("\u2028\n")}},
	} {
		if file, err := written(values.JSON, entries); err != nil || string(file) != want {
			t.Errorf("%q, %v, want %q", file, err, want)
		}
	}
}

// Properties are what Java reads, by its documentation and by itself.
func TestProperties(t *testing.T) {
	t.Parallel()
	all := hard()
	all["empty"], all["NUL"], all["quote"], all["CRLF"] = "", "a\x00b", "it's", "a\r\nb"
	entries, want := entriesOf(all)
	for _, name := range []string{" a b ", "a=b", "a:b", "#a", "!a", "a#b!c", `a\b`, "ä.ü", "日本", "😀", "a.b[0].c", `\u0041`} {
		want[name] = "value of " + name
		entries = append(entries, values.Entry{Name: name, Data: []byte("value of " + name)})
	}
	file, err := written(values.Properties, entries)
	if err != nil {
		t.Fatal(err)
	}
	got, err := properties(string(file))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	t.Run("java", func(t *testing.T) {
		t.Parallel()
		if diff := cmp.Diff(want, javaProperties(t, file)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPropertiesText(t *testing.T) {
	t.Parallel()
	file, err := written(values.Properties, []values.Entry{
		{Name: "db.url", Data: []byte("jdbc:postgresql://db:5432/a?x=1#y!")}, {Name: "a b=ä", Data: []byte("  x \\ y \n😀")}, {Name: "empty"},
	})
	want := `db.url=jdbc:postgresql://db:5432/a?x=1#y!
a\ b\=\u00E4=\ \ x \\ y \n\uD83D\uDE00
empty=
`
	if err != nil || string(file) != want {
		t.Errorf("%s, %v", file, err)
	}
}

// A value that is not text is refused by name.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(io.Writer, []values.Entry) error{"json": values.JSON, "properties": values.Properties} {
		file, err := written(write, []values.Entry{{Name: "a", Data: []byte("1")}, {Name: "b", Data: []byte("\xff")}})
		var unwritable *values.Unwritable
		if !errors.As(err, &unwritable) || unwritable.Entry != 1 || err.Error() != "it is not UTF-8" || file != nil {
			t.Errorf("%s: %q, %v", name, file, err)
		}
	}
}

// Random values of the characters that matter most, in each shell.
func TestEnvRandom(t *testing.T) {
	t.Parallel()
	const characters = "\"\\$`!#=;&|<>(){}[]*?~ \t\n\r'a1\u0081\u0088\u00a0é\u2028😀\x01\x7f%^,.-+/:@_"
	random := rand.New(rand.NewPCG(1, 2))
	runes := []rune(characters)
	want := map[string]string{}
	var entries []values.Entry
	for i := range 2000 {
		var b strings.Builder
		for range 1 + random.IntN(12) {
			b.WriteRune(runes[random.IntN(len(runes))])
		}
		entry := values.Entry{Name: fmt.Sprintf("V%d", i), Data: []byte(b.String())}
		if _, err := written(values.Env, []values.Entry{entry}); err == nil {
			entries, want[entry.Name] = append(entries, entry), b.String()
		}
	}
	file, err := written(values.Env, entries)
	if err != nil || len(entries) < 500 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, shell := range shells() {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			got := source(t, shell, file)
			maps.DeleteFunc(got, func(name, _ string) bool { _, ok := want[name]; return !ok })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzFile: what is written is read back, in all formats, and the entries before and after it do not change.
func FuzzFile(f *testing.F) {
	for _, value := range awkward() {
		if len(value) < 100 {
			f.Add("NAME", value)
		}
	}
	for _, value := range []string{"", "'", "a\r\nb", "\x00", "\xff", "\n'\nX='1"} {
		f.Add(" =:#", value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		entries := []values.Entry{{Name: "BEFORE", Data: []byte("1")}, {Name: "NAME", Data: []byte(value)}, {Name: "AFTER", Data: []byte("2")}}
		if file, err := written(values.Env, entries); err == nil {
			for _, e := range entries {
				if got, err := fileKeyRef(string(file), e.Name); err != nil || got != string(e.Data) {
					t.Fatalf("fileKeyRef reads %s as %q, %v", e.Name, got, err)
				}
			}
			if strings.Count(string(file), "'") != 6 {
				t.Fatal("a shell would not read it")
			}
		}
		entries[1].Name = "N" + strings.ToValidUTF8(name, "?")
		want := map[string]string{"BEFORE": "1", entries[1].Name: value, "AFTER": "2"}
		if file, err := written(values.Properties, entries); err == nil {
			got, err := properties(string(file))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Fatalf("Java reads %v, %s", err, diff)
			}
		}
		if file, err := written(values.JSON, entries); err == nil {
			var got map[string]string
			err := json.Unmarshal(file, &got)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Fatalf("encoding/json reads %v, %s", err, diff)
			}
		}
	})
}
