package values_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
)

// rfc6901 is the document of RFC 6901, section 5, on one line.
const rfc6901 = `{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8}`

const document = ` {
	"db": {"user": "app", "password": "hunter2", "port": 5432, "ssl": true, "ca": null, "hosts": ["a", {"b": "c"}, []]},
	"numbers": [0, -0, 1.10, 1e400, 12345678901234567890.123456789, 1E+2],
	"text": "line\nquote\" \u00e4 \ud83d\ude00 \/ \\ ",
	"order": { "z" : 1.0 , "a" : [ 1 , 2 ] , "html": "<&>" },
	"~1": "tilde", "empty": "", "ключ": "д"
}
`

// found is what a pointer finds, with its data.
type found struct {
	Data     []byte
	IsString bool
	Err      error
}

func findAll(value []byte, pointers []string) (all []found, err error) {
	fields, err := values.Find(value, pointers)
	for _, field := range fields {
		data, err := field.Data()
		all = append(all, found{data, field.IsString(), err})
	}
	return all, err
}

// find returns what one pointer finds.
func find(t *testing.T, value, pointer string) found {
	t.Helper()
	fields, err := findAll([]byte(value), []string{pointer})
	if err != nil || len(fields) != 1 {
		t.Fatalf("%d fields, %v", len(fields), err)
	}
	return fields[0]
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ document, pointer, want string }{
		{rfc6901, "", `{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}`},
		{rfc6901, "/foo", `["bar","baz"]`},
		{rfc6901, "/foo/0", "bar"},
		{rfc6901, "/", "0"},
		{rfc6901, "/a~1b", "1"},
		{rfc6901, "/c%d", "2"},
		{rfc6901, "/e^f", "3"},
		{rfc6901, "/g|h", "4"},
		{rfc6901, `/i\j`, "5"},
		{rfc6901, `/k"l`, "6"},
		{rfc6901, "/ ", "7"},
		{rfc6901, "/m~0n", "8"},

		{document, "/db/password", "hunter2"},
		{document, "/db/port", "5432"},
		{document, "/db/ssl", "true"},
		{document, "/db/ca", "null"},
		{document, "/db/hosts/1/b", "c"},
		{document, "/db/hosts/2", "[]"},
		{document, "/numbers", "[0,-0,1.10,1e400,12345678901234567890.123456789,1E+2]"},
		{document, "/numbers/1", "-0"},
		{document, "/numbers/2", "1.10"},
		{document, "/numbers/3", "1e400"},
		{document, "/numbers/4", "12345678901234567890.123456789"},
		{document, "/text", "line\nquote\" ä 😀 / \\ "},
		{document, "/order", `{"z":1.0,"a":[1,2],"html":"<&>"}`},
		{document, "/~01", "tilde"},
		{document, "/empty", ""},
		{document, "/ключ", "д"},
		{`"a\u0000b"`, "", "a\x00b"},
		{`"\ufffd \\ud800 "`, "", "\ufffd \\ud800 "},
		{`{"\u0061": 1}`, "/a", "1"},
		{`{"a": 1, "a": 2, "b": 3}`, "/b", "3"},
		{`{"a": 1, "a": 2}`, "", `{"a":1,"a":2}`},
		{"0", "", "0"},
		{" false\r\n", "", "false"},
		{`{"0": "member"}`, "/0", "member"},
	} {
		if field := find(t, row.document, row.pointer); field.Err != nil || string(field.Data) != row.want {
			t.Errorf("%q finds %q, %v, want %q", row.pointer, field.Data, field.Err, row.want)
		}
	}
}

func TestFindNothing(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ document, pointer, want string }{
		{document, "/password", `the value has no member "password"`},
		{document, "/DB", `the value has no member "DB"`},
		{document, "/db/pasword", `"/db" has no member "pasword"`},
		{document, "/db/", `"/db" has no member ""`},
		{document, "/db/a~1b~0c/d", `"/db" has no member "a/b~c"`},
		{document, "/db/password/x", `"/db/password" is a string`},
		{document, "/db/port/0", `"/db/port" is a number`},
		{document, "/db/ssl/0", `"/db/ssl" is a boolean`},
		{document, "/db/ca/0/1", `"/db/ca" is null`},
		{document, "/db/hosts/3", `"/db/hosts" is an array without an element "3"`},
		{document, "/db/hosts/-", `"/db/hosts" is an array without an element "-"`},
		{document, "/db/hosts/01", `"/db/hosts" is an array without an element "01"`},
		{document, "/db/hosts/+1", `"/db/hosts" is an array without an element "+1"`},
		{document, "/db/hosts/1e0", `"/db/hosts" is an array without an element "1e0"`},
		{document, "/db/hosts/99999999999999999999", `"/db/hosts" is an array without an element "99999999999999999999"`},
		{document, "/ключ/й", `"/\u043a\u043b\u044e\u0447" is a string`},
		{`"x"`, "/a", "the value is a string"},
		{"[]", "/0", `the value is an array without an element "0"`},
		{`{"a": 1, "a": 2}`, "/a", `"/a" is there twice`},
		{`{"a": {}, "\u0061": 2}`, "/a/b", `"/a" is there twice`},
		{`{"a": {"b": 1}, "a": 2, "a": 3}`, "/a/b", `"/a" is there twice`},
	} {
		field := find(t, row.document, row.pointer)
		kind := values.ErrNoField
		if strings.HasSuffix(row.want, "twice") {
			kind = values.ErrTwice
		}
		if !errors.Is(field.Err, kind) || field.Err.Error() != row.want || field.Data != nil {
			t.Errorf("%q: %q, %v, want %s", row.pointer, field.Data, field.Err, row.want)
		}
	}
	for _, text := range []string{`"\ud800"`, `"\udc00"`, `"\ud800x"`, `"\ud800\ud800"`, `"\\\ud83d"`, `"\uDE00\uD83D"`} {
		if field := find(t, text, ""); field.Err == nil || field.Err.Error() != "is a string with half of a surrogate pair" {
			t.Errorf("%s: %v", text, field.Err)
		}
	}
}

// Several pointers, one through the other, do not disturb each other.
func TestFindSeveral(t *testing.T) {
	t.Parallel()
	pointers := []string{"/db/user", "/db", "/db/user", "", "/db/user/x", "/nowhere", "/db/hosts/1"}
	fields, err := findAll([]byte(document), pointers)
	if err != nil {
		t.Fatal(err)
	}
	for i, pointer := range pointers {
		alone := find(t, document, pointer)
		if !bytes.Equal(alone.Data, fields[i].Data) || alone.IsString != fields[i].IsString || (alone.Err == nil) != (fields[i].Err == nil) {
			t.Errorf("%q finds %+v, and alone %+v", pointer, fields[i], alone)
		}
	}
}

// The error never holds what the value holds.
func TestFindNotJSON(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", " ", "hunter2", "{", `{"a": 1`, `{"a": 1} x`, `{"a": 1}{}`, "{'a': 1}", `{"a": 1,}`, `{a: 1}`, "NaN", "01", "\ufeff{}", "\"a\nb\"",
		"{\"a\": \"\xff\"}", "\u00a0{}", "// comment\n{}", `{"a": 1} // hunter2`, strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	} {
		fields, err := findAll([]byte(value), []string{"/a", ""})
		if !errors.Is(err, values.ErrNotJSON) || err.Error() != "is not JSON" || fields != nil {
			t.Errorf("%.20q: %v, %v", value, fields, err)
		}
	}
}

// FuzzFind compares with a decoder that holds the whole document.
func FuzzFind(f *testing.F) {
	for _, pointer := range []string{"", "/", "/db/password", "/db/hosts/1/b", "/a~1b", "/m~0n", "/numbers/4", "/foo/00", "/text"} {
		f.Add([]byte(document), pointer)
		f.Add([]byte(rfc6901), pointer)
	}
	f.Add([]byte(`{"a": 1, "a": {"b": 2}}`), "/a/b")
	f.Add([]byte(`["\ud800", "\ufffd"]`), "/0")
	f.Add([]byte(strings.Repeat("[", 9000)+strings.Repeat("]", 9000)), strings.Repeat("/0", 32))
	f.Add([]byte(strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 100)), strings.Repeat("/a", 32))
	f.Fuzz(func(t *testing.T, value []byte, pointer string) {
		if pointer != "" && pointer[0] != '/' {
			return
		}
		fields, err := findAll(value, []string{pointer, ""})
		if err != nil {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(value))
		decoder.UseNumber()
		var whole any
		if err := decoder.Decode(&whole); err != nil {
			t.Fatalf("encoding/json does not read it: %v", err)
		}
		want, exists := walk(whole, pointer)
		switch field := fields[0]; {
		case field.Err != nil: // also for duplicates and half surrogates, which the decoder accepts
			if exists && !strings.Contains(field.Err.Error(), "twice") && !strings.Contains(field.Err.Error(), "surrogate") {
				t.Fatalf("%q: %v", pointer, field.Err)
			}
		case !exists:
			t.Fatalf("%q finds %q, and there is nothing", pointer, field.Data)
		case field.IsString:
			if text, ok := want.(string); !ok || text != string(field.Data) {
				t.Fatalf("%q finds the string %q, want %v", pointer, field.Data, want)
			}
		default:
			wanted, _ := json.Marshal(want)
			var again any
			decoder := json.NewDecoder(bytes.NewReader(field.Data))
			decoder.UseNumber()
			if err := decoder.Decode(&again); err != nil {
				t.Fatal(err)
			}
			if got, _ := json.Marshal(again); !bytes.Equal(got, wanted) {
				t.Fatalf("%q finds %q, want %q", pointer, got, wanted)
			}
		}
	})
}

// walk follows a pointer through a decoded value.
func walk(value any, pointer string) (any, bool) {
	if pointer == "" {
		return value, true
	}
	for token := range strings.SplitSeq(pointer[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch v := value.(type) {
		case map[string]any:
			member, ok := v[token]
			if !ok {
				return nil, false
			}
			value = member
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != token {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// BenchmarkHostile has the largest value that a vault can answer, and as many pointers as a volume can have.
func BenchmarkHostile(b *testing.B) {
	pointers := make([]string, 4096)
	for i := range pointers {
		pointers[i] = strings.Repeat("/0", i%32) + "/" + strconv.Itoa(i)
	}
	same := make([]string, 4096)
	for i := range same {
		same[i] = "/a"
	}
	const size = 25 << 10
	for name, row := range map[string]struct {
		value    string
		pointers []string
	}{
		"array":        {"[" + strings.Repeat("0,", size/2) + "0]", pointers},
		"nested":       {strings.Repeat("[", 9000) + strings.Repeat("]", 9000), pointers},
		"deep levels":  {strings.Repeat("[", 31) + strings.Repeat("0,", size/2) + "0" + strings.Repeat("]", 31), pointers},
		"members":      {"{" + strings.Repeat(`"a":0,`, size/6) + `"b":0}`, same},
		"one string":   {`{"a":"` + strings.Repeat(`\u0041`, size/6) + `"}`, same},
		"one object":   {`{"a":[` + strings.Repeat(` 0,`, size/3) + `0]}`, same},
		"not JSON":     {strings.Repeat("[", size), pointers},
		"long numbers": {"[" + strings.Repeat("1", size) + "]", []string{"/0"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fields, _ := values.Find([]byte(row.value), row.pointers)
				for i, field := range fields {
					if i == 0 || row.pointers[i] != row.pointers[i-1] { // the caller makes the data of a field once
						_, _ = field.Data()
					}
				}
			}
		})
	}
}
