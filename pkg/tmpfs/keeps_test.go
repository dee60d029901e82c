package tmpfs_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A file that keeps its bytes changes only together with the rest of the set, also after a restart of the driver.
func TestKeeps(t *testing.T) {
	t.Parallel()
	// version is a file whose first byte is a time, which may stay.
	version := func(data, other string) volume.Content {
		c := content("a", other, "versions", data)
		c.Files[1].Keeps = func(there []byte) bool { return len(there) == len(data) && bytes.Equal(there[1:], []byte(data)[1:]) }
		return c
	}
	for name, row := range map[string]struct {
		next    volume.Content
		changed bool
		holds   string
	}{
		"another time":              {version("2x", "1"), false, "1x"},
		"other bytes":               {version("2y", "1"), true, "2y"},
		"another time, other files": {version("2x", "9"), true, "2x"},
		"the same":                  {version("1x", "1"), false, "1x"},
		"another length":            {version("2xx", "1"), true, "2xx"},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if restarted && mountns.InUserNamespace() {
					t.Skip("what was written is kept in an attribute that takes CAP_SYS_ADMIN of the machine")
				}
				f := newFixture(t, tmpfs.Options{})
				f.publish(t, version("1x", "1"))
				if restarted {
					f = f.restart(t)
				}
				*f.now = f.now.Add(time.Hour)
				next := row.next
				next.Fetched = epoch.Add(time.Hour)
				for i := range 2 {
					if changed := f.publish(t, next); changed != (row.changed && i == 0) {
						t.Errorf("publish %d: changed = %v", i, changed)
					}
					got := read(t, filepath.Join(f.target, "versions"))
					if got != row.holds {
						t.Errorf("the file holds %q, want %q", got, row.holds)
					}
					if fetched, _, err := f.Refreshed(f.target); !fetched.Equal(next.Fetched) || err != nil {
						t.Errorf("fetched %v (%v), want %v", fetched, err, next.Fetched)
					}
				}
			})
		}
	}
}

// What another process writes into such a file is reported and replaced, also if it says the same.
func TestKeepsNothingForged(t *testing.T) {
	t.Parallel()
	next := content("a", "1", "versions", "1x")
	next.Files[1].Keeps = func([]byte) bool { return true }
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, next)
	writeBehind(t, f.target, func(dir string) { write(t, filepath.Join(dir, "..data", "versions"), "9x") })
	o, err := f.Publish(t.Context(), f.mount(), next)
	if want := (volume.Outcome{Changed: true, Tampered: "the names, bytes, modes or owners of its files"}); err != nil || o != want {
		t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
	}
	if got := read(t, filepath.Join(f.target, "versions")); got != "1x" {
		t.Errorf("the file holds %q", got)
	}
}
