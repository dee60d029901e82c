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

// The limits of a volume also bound the requests: a list ends when it has too many names, and reads end when the
// values are too large, whatever else the vault holds.
func TestLimitsHoldWhileFetching(t *testing.T) {
	t.Parallel()
	const (
		bytes = "the volume's content is over the limit of 100000 bytes (--max-volume-bytes); ask for fewer or smaller objects"
		list  = "objects[0]: the list of secrets of https://shop.vault.azure.net as servicePrincipal " + clientID +
			": more secrets match than a volume may have files (--max-volume-files); select fewer, by prefix or tags"
	)
	w := newFixture(t)
	value := strings.Repeat("v", 10_000)
	for i := range 600 {
		w.vault.SetSecret(fmt.Sprintf("many-%03d", i), value, devcloud.SecretOptions{})
	}
	for i := range 50 {
		w.vault.SetSecret(fmt.Sprintf("hex-%02d", i), strings.Repeat("61", 5_000), devcloud.SecretOptions{})
	}
	hex := func(i int) volume.Object {
		o := secret(fmt.Sprintf("hex-%02d", i))
		o.Encoding = volume.Hex
		return o
	}
	for name, test := range map[string]struct {
		limits      volume.Limits
		objects     []volume.Object
		want        string // empty: no error
		reads       int    // maximum; 0: not checked
		pages       int    // exactly
		files, size int
	}{
		"a list of too many":        {volume.Limits{Files: 100}, []volume.Object{selection(volume.Selection{Prefix: "many-"})}, list, 0, 7, 0, 0},
		"two lists of too many":     {volume.Limits{Files: 1000}, []volume.Object{selection(volume.Selection{Prefix: "many-"}), folder(selection(volume.Selection{Prefix: "many-"}))}, "the volume is over the limit of 1000 files (--max-volume-files); ask for fewer objects", 0, 27, 0, 0},
		"values of too many bytes":  {volume.Limits{Bytes: 100_000}, []volume.Object{selection(volume.Selection{Prefix: "many-"})}, bytes, 40, 27, 0, 0},
		"only what is written":      {volume.Limits{Bytes: 50_000}, []volume.Object{hex(0), hex(1), hex(2), hex(3), hex(4), hex(5), hex(6), hex(7), hex(8), hex(9)}, "", 0, 0, 10, 50_000},
		"just as many as there may": {volume.Limits{Bytes: 30_000, Files: 3}, []volume.Object{secret("many-000"), secret("many-001"), secret("many-002")}, "", 0, 0, 3, 30_000},
		"no limits":                 {volume.Limits{}, []volume.Object{selection(volume.Selection{Prefix: "many-0"})}, "", 0, 27, 100, 1_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			w.ResetCounts()
			r := w.asServicePrincipal(test.objects...)
			r.Limits = test.limits
			content, err := w.newClient().Fetch(t.Context(), r)
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want != "" && (!errors.Is(err, volume.ErrTooLarge) || err.Error() != test.want):
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			size := 0
			for _, f := range content.Files {
				size += len(f.Data.Reveal())
			}
			if len(content.Files) != test.files || size != test.size {
				t.Errorf("%d files of %d bytes, want %d of %d", len(content.Files), size, test.files, test.size)
			}
			if got := w.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200}); test.reads > 0 && got > test.reads {
				t.Errorf("%d secrets were read, want at most %d", got, test.reads)
			}
			if got := w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 200}); got != test.pages {
				t.Errorf("%d pages were read, want %d", got, test.pages)
			}
		})
	}
}

// folder writes the objects of a selection into a folder.
func folder(o volume.Object) volume.Object {
	each := o.Selection.Each
	s := *o.Selection
	s.Each = func(name string) volume.Object {
		object := each(name)
		object.Outputs = []volume.Output{{Part: volume.PartValue, Path: "folder/" + name}}
		return object
	}
	o.Selection = &s
	return o
}

// memory is a memory limit for a volume, in bytes.
type memory struct {
	mu                sync.Mutex
	held, most        int64
	reads, atOnce     int
	full, noMoreReads error
}

func (m *memory) Hold(_ context.Context, bytes int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held += bytes; m.held > m.most {
		return m.full
	}
	return nil
}

func (m *memory) Read(_ context.Context, vault string) (func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.noMoreReads != nil && m.reads > 0 || vault != "https://shop.vault.azure.net" {
		return nil, m.noMoreReads
	}
	m.reads++
	m.atOnce++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.atOnce--
	}, nil
}

// The memory limit of the node is asked for each read and for each file, and its error ends the fetch.
func TestTheMemoryLimitOfTheNode(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for _, name := range []string{"a", "b", "c"} {
		w.vault.SetSecret(name, "12345", devcloud.SecretOptions{})
	}
	full := volume.Errorf(volume.ErrTooLarge, "the node is full")
	busy := volume.Errorf(volume.ErrUnavailable, "the node is busy")
	for name, test := range map[string]struct {
		memory *memory
		want   error
		reads  int
	}{
		"enough":              {&memory{most: 15}, nil, 3},
		"a byte too little":   {&memory{most: 14, full: full}, full, 3},
		"no more than a read": {&memory{most: 15, noMoreReads: busy}, busy, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.asServicePrincipal(secret("a"), secret("b"), secret("c"))
			r.Memory = test.memory
			if _, err := w.client.Fetch(t.Context(), r); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.memory.reads != test.reads || test.memory.atOnce != 0 {
				t.Errorf("%d reads, of which %d have not ended; want %d", test.memory.reads, test.memory.atOnce, test.reads)
			}
			if test.want == nil && test.memory.held != 15 {
				t.Errorf("%d bytes are held, want 15", test.memory.held)
			}
		})
	}
}
