package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The limits count files of values as one file each, and all of their bytes.
func TestValueFileLimits(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for i := range 20 {
		w.vault.SetSecret(fmt.Sprintf("many-%02d", i), strings.Repeat("v", 1000), devcloud.SecretOptions{})
	}
	w.vault.SetSecret("escaped", strings.Repeat("\x01", 1000), devcloud.SecretOptions{})
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
			r := w.structured(row.yaml)
			r.Limits = row.limits
			_, err := w.newClient().Fetch(t.Context(), r)
			if row.want == "" && err != nil || row.want != "" && (!errors.Is(err, volume.ErrTooLarge) || err.Error() != row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

// largest is a memory limit that notes the largest request.
type largest struct {
	memory
	mu    sync.Mutex
	bytes int64
}

func (l *largest) Hold(_ context.Context, bytes int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes = max(l.bytes, bytes)
	return nil
}

// A file of values asks for memory as it grows. Escapes can make it six times as large as its values, and that must not be in
// memory before somebody has counted it.
func TestValueFilesAskForMemoryAsTheyGrow(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for i := range 20 {
		w.vault.SetSecret(fmt.Sprintf("escaped-%d", i), strings.Repeat("\x01", 1000), devcloud.SecretOptions{})
	}
	for _, format := range []string{"json", "properties"} {
		held := &largest{}
		r := w.structured("[{" + format + ": a, from: [{secrets: {prefix: escaped-}}]}]")
		r.Memory = held
		if _, err := w.newClient().Fetch(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if most := int64(20 << 10); held.bytes > most { // of the list
			t.Errorf("%s: %d bytes at once, want at most %d", format, held.bytes, most)
		}
	}
}

// Fields that are one in the other are counted one by one: together they are many times as large as the value.
func TestFieldsAskForMemoryOneByOne(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	const depth, size = 30, 10_000
	w.vault.SetSecret("nested", strings.Repeat(`{"a":`, depth)+`"`+strings.Repeat("x", size)+`"`+strings.Repeat("}", depth), devcloud.SecretOptions{})
	var fields []string
	for i := range depth {
		fields = append(fields, fmt.Sprintf("f/%d: %s", i, strings.Repeat("/a", i+1)))
	}
	held := &largest{}
	r := w.structured("[{secret: nested, fields: {" + strings.Join(fields, ", ") + "}}]")
	r.Memory, r.Limits = held, volume.Limits{Bytes: 2 * size}
	w.fails(r, volume.ErrTooLarge, "the volume's content is over the limit of 20000 bytes (--max-volume-bytes); ask for fewer or smaller objects")
	r.Limits = volume.Limits{}
	content, err := w.client.Fetch(t.Context(), r)
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
	w := newFixture(t)
	w.vault.SetSecret("blanks", `{"a": [`+strings.Repeat(" ", 20_000)+`]}`, devcloud.SecretOptions{})
	content, err := w.client.Fetch(t.Context(), w.structured("[{secret: blanks, fields: {x: /a, y: /a}}, {secret: blanks, field: /a, path: z}]"))
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

// What selections add to files of values is bounded like the lists of a volume.
func TestTooManySelectedEntries(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for i := range volume.MaxEntries/2 + 1 {
		w.vault.SetSecret(fmt.Sprintf("s-%d", i), "x", devcloud.SecretOptions{})
	}
	w.fails(w.structured("[{json: a, from: [{secrets: {}}]}, {json: b, from: [{secrets: {}}]}]"), volume.ErrTooLarge,
		"objects[1].from[0] selects too many secrets, at most 4096 can be the entries of files; select fewer, by prefix or tags")
	if n := w.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200}); n != 0 {
		t.Errorf("%d secrets were read", n)
	}
}
