package files_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What a file cannot hold is an error that names the entry.
func TestEntryErrors(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{
		"quote": "plan'ted", "nul": "planted\x00", "empty": "", "crlf": "planted\r\nx", "latin": "cGxhbnRlZOQ=", "app-a": "planted", "1-app": "planted", "uid": "planted",
	}
	const (
		shop  = " of https://shop.vault.azure.net"
		other = "; change the value, or write it to a json or properties file, or to one of its own"
		own   = "; change the value, or write it to a file of its own"
	)
	for _, row := range []struct {
		yaml     string
		sentinel error
		want     string
	}{
		{"[{env: app.env, from: [{secret: app-a}, {name: B, secret: quote}]}]", volume.ErrPrecondition,
			`objects[0].from[1]: secret "quote"` + shop + ` cannot be the entry "B" of "app.env": it has a single quote, which the format cannot express` + other},
		{"[{env: app.env, from: [{secret: nul}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "nul"` + shop + ` cannot be the entry "NUL" of "app.env": it has a NUL, which no variable can have` + other},
		{"[{env: app.env, from: [{secret: empty}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "empty"` + shop + ` cannot be the entry "EMPTY" of "app.env": it is empty, which Kubernetes takes for absent` + other},
		{"[{env: app.env, from: [{secrets: {prefix: crlf}}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "crlf"` + shop + ` cannot be the entry "CRLF" of "app.env": it has a carriage return before a line feed, which Kubernetes drops` + other},
		{"[{json: a.json, from: [{secret: latin, encoding: base64}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "latin"` + shop + ` cannot be the entry "latin" of "a.json": it is not UTF-8` + own},
		{"[{properties: a, from: [{name: ü, secret: latin, encoding: base64}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "latin"` + shop + ` cannot be the entry "\u00fc" of "a": it is not UTF-8` + own},

		{"[{env: app.env, from: [{secrets: {prefix: 1-}}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "1-app"` + shop + ` cannot be an entry of "app.env", the name "1_APP" is not that of a variable, ` +
				`1 to 128 letters, digits and underscores, no digit first; select fewer, and list it with a name`},
		{"[{env: app.env, from: [{secrets: {prefix: uid}}]}]", volume.ErrPrecondition,
			`objects[0].from[0]: secret "uid"` + shop + ` cannot be an entry of "app.env", the name "UID" is that of a variable which a shell sets itself, ` +
				`choose another one; select fewer, and list it with a name`},
		{"[{env: app.env, from: [{name: APP_A, secret: uid}, {secrets: {prefix: app-}}]}]", volume.ErrInvalid,
			`objects[0].from[1]: secret "app-a"` + shop + ` is the entry "APP_A" of "app.env", and so is objects[0].from[0]: secret "uid"` + shop +
				`; select fewer, or choose another name`},
		{"[{json: a, from: [{secrets: {prefix: app-}}, {secrets: {}}]}]", volume.ErrInvalid,
			`objects[0].from[1]: secret "app-a"` + shop + ` is the entry "app-a" of "a", and so is objects[0].from[0]: secret "app-a"` + shop +
				`; select fewer, or choose another name`},
		{"[{secrets: {}, path: d}, {json: d/app-a, from: [{secret: uid}]}]", volume.ErrInvalid,
			`objects[1]: writes "d/app-a", which objects[0] writes already`},
	} {
		t.Run(row.yaml, func(t *testing.T) {
			_, err := contentOf(t, structured(t, row.yaml), secrets)
			if !errors.Is(err, row.sentinel) || err.Error() != row.want {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

// The limits count files of values as one file each, and all of their bytes.
func TestValueFileLimits(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"escaped": strings.Repeat("\x01", 1000)}
	for i := range 20 {
		secrets[fmt.Sprintf("many-%02d", i)] = strings.Repeat("v", 1000)
	}
	const tooLarge = "the volume's content is over the limit of 5000 bytes (--max-volume-bytes); ask for fewer or smaller objects"
	for name, row := range map[string]struct {
		yaml   string
		limits volume.Limits
		want   string
	}{
		"as many as there may be": {"[{env: a, from: [{secrets: {prefix: many-}}]}, {secret: escaped}]", volume.Limits{Files: 20, Bytes: 20*1011 + 1000}, ""},
		"one byte too many":       {"[{env: a, from: [{secret: many-00}, {secret: many-01}, {secret: many-02}, {secret: many-03}, {name: A, secret: many-04}]}]", volume.Limits{Bytes: 5000}, tooLarge},
		"escapes":                 {"[{properties: a, from: [{secret: escaped}]}]", volume.Limits{Bytes: 5000}, tooLarge},
		"values":                  {"[{json: a, from: [{secrets: {prefix: many-}}]}]", volume.Limits{Bytes: 5000}, tooLarge},
		"entries are no files": {
			"[{env: a, from: [{secret: many-00}, {secret: many-01}, {secret: many-02}]}, {secrets: {prefix: many-1}, path: d}]", volume.Limits{Files: 11}, "",
		},
		"two files": {"[{env: a, from: [{secret: many-00}]}, {env: b, from: [{secret: many-00}]}]", volume.Limits{Files: 1},
			"the volume is over the limit of 1 files (--max-volume-files); ask for fewer objects"},
	} {
		t.Run(name, func(t *testing.T) {
			r := structured(t, row.yaml)
			r.Limits = row.limits
			_, err := contentOf(t, r, secrets)
			if row.want == "" && err != nil || row.want != "" && (!errors.Is(err, volume.ErrTooLarge) || err.Error() != row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

// largest is a memory limit that notes the largest request.
type largest struct{ bytes int64 }

func (l *largest) Read(context.Context, string) (done func(), err error) { panic("nothing is read") }

func (l *largest) Hold(_ context.Context, bytes int64) error {
	l.bytes = max(l.bytes, bytes)
	return nil
}

// A file of values asks for memory as it grows. Escapes can make it six times as large as its values, and that must not be in
// memory before somebody has counted it.
func TestValueFilesAskForMemoryAsTheyGrow(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{}
	for i := range 20 {
		secrets[fmt.Sprintf("escaped-%d", i)] = strings.Repeat("\x01", 1000)
	}
	for _, format := range []string{"json", "properties"} {
		held := &largest{}
		r := structured(t, "[{"+format+": a, from: [{secrets: {prefix: escaped-}}]}]")
		r.Memory = held
		if _, err := contentOf(t, r, secrets); err != nil {
			t.Fatal(err)
		}
		if most := int64(6 << 10); held.bytes > most { // of one value
			t.Errorf("%s: %d bytes at once, want at most %d", format, held.bytes, most)
		}
	}
}

// Fields that are one in the other are counted one by one: together they are many times as large as the value.
func TestFieldsAskForMemoryOneByOne(t *testing.T) {
	t.Parallel()
	const depth, size = 30, 10_000
	secrets := map[string]string{"nested": strings.Repeat(`{"a":`, depth) + `"` + strings.Repeat("x", size) + `"` + strings.Repeat("}", depth)}
	var fields []string
	for i := range depth {
		fields = append(fields, fmt.Sprintf("f/%d: %s", i, strings.Repeat("/a", i+1)))
	}
	held := &largest{}
	r := structured(t, "[{secret: nested, fields: {"+strings.Join(fields, ", ")+"}}]")
	r.Memory, r.Limits = held, volume.Limits{Bytes: 2 * size}
	const want = "the volume's content is over the limit of 20000 bytes (--max-volume-bytes); ask for fewer or smaller objects"
	if _, err := contentOf(t, r, secrets); !errors.Is(err, volume.ErrTooLarge) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	r.Limits = volume.Limits{}
	content, err := contentOf(t, r, secrets)
	if err != nil || len(content.Files) != depth {
		t.Fatalf("%d files, %v", len(content.Files), err)
	}
	if most := int64(size + 6*depth + 2); held.bytes > most {
		t.Errorf("%d bytes at once, want at most the %d of the value", held.bytes, most)
	}
}

// The content of a field is made once, however many files have it: a value that is large because of its blanks takes time, and its
// files are too small for the limits.
func TestAFieldIsMadeOnce(t *testing.T) {
	t.Parallel()
	r := structured(t, "[{secret: blanks, fields: {x: /a, y: /a}}, {secret: blanks, field: /a, path: z}]")
	content, err := contentOf(t, r, map[string]string{"blanks": `{"a": [` + strings.Repeat(" ", 20_000) + `]}`})
	if err != nil || len(content.Files) != 3 {
		t.Fatalf("%d files, %v", len(content.Files), err)
	}
	first := content.Files[0].Data.Reveal()
	for _, file := range content.Files {
		if data := file.Data.Reveal(); string(data) != "[]" || &data[0] != &first[0] {
			t.Errorf("%s is %q, made again: %v", file.Path, data, &data[0] != &first[0])
		}
	}
}
