package tmpfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	first := content("a", "1", "dir/b", "2", "empty/", "")
	mode := content("a", "1", "dir/b", "2", "empty/", "")
	mode.Files[0].Mode = 0o400
	tests := map[string]struct {
		next    volume.Content
		changed bool
		links   []string
	}{
		"the same":            {first, false, []string{"a", "dir", "empty"}},
		"other bytes":         {content("a", "9", "dir/b", "2", "empty/", ""), true, []string{"a", "dir", "empty"}},
		"other length":        {content("a", "11", "dir/b", "2", "empty/", ""), true, []string{"a", "dir", "empty"}},
		"other mode":          {mode, true, []string{"a", "dir", "empty"}},
		"one more file":       {content("a", "1", "dir/b", "2", "dir/c", "3", "empty/", ""), true, []string{"a", "dir", "empty"}},
		"one more top name":   {content("a", "1", "c", "1", "dir/b", "2", "empty/", ""), true, []string{"a", "c", "dir", "empty"}},
		"a file less":         {content("a", "1", "empty/", ""), true, []string{"a", "empty"}},
		"a folder less":       {content("a", "1", "dir/b", "2"), true, []string{"a", "dir"}},
		"one more folder":     {content("a", "1", "dir/b", "2", "dir/f/", "", "empty/", ""), true, []string{"a", "dir", "empty"}},
		"a file for a folder": {content("a", "1", "dir", "2", "empty/", ""), true, []string{"a", "dir", "empty"}},
		"a folder for a file": {content("a/x", "1", "dir/b", "2", "empty/", ""), true, []string{"a", "dir", "empty"}},
		"another name":        {content("z", "1", "dir/b", "2", "empty/", ""), true, []string{"dir", "empty", "z"}},
		"nothing at all":      {content(), true, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{})
			f.publish(t, first)
			before, _ := os.Readlink(filepath.Join(f.target, "..data"))
			*f.now = f.now.Add(time.Hour)
			next := tt.next
			next.Fetched = epoch.Add(59 * time.Minute)
			if changed := f.publish(t, next); changed != tt.changed {
				t.Errorf("changed = %v, want %v", changed, tt.changed)
			}
			after, _ := os.Readlink(filepath.Join(f.target, "..data"))
			if (before != after) != tt.changed {
				t.Errorf("..data: %q, then %q", before, after)
			}
			if fetched, _, err := f.Refreshed(f.target); !fetched.Equal(next.Fetched) || err != nil {
				t.Errorf("fetched %v (%v), want %v", fetched, err, next.Fetched)
			}
			fresh := newFixture(t, tmpfs.Options{})
			fresh.publish(t, next)
			if d := cmp.Diff(tree(t, fresh.target), tree(t, f.target)); d != "" {
				t.Errorf("not as a first publish has it (-first +rotated):\n%s", d)
			}
			if got := visible(t, f.target); !slices.Equal(got, tt.links) {
				t.Errorf("top-level names %v, want %v", got, tt.links)
			}
			if got := mounts(t, f.target); len(got) != 1 || !strings.HasPrefix(got[0], "ro,") {
				t.Errorf("mounts afterwards: %v", got)
			}
		})
	}
}

// visible returns the names that a pod sees in its volume.
func visible(t *testing.T, dir string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") {
			found = append(found, e.Name())
		}
	}
	return found
}

func TestClockSteppedBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("a", "0"))
	names := []string{"..2026_11_23_02_20_11.123456789"}
	for i := range 5 {
		*f.now = epoch.Add(-time.Duration(i) * time.Hour) // at first it only stands still
		c := content("a", fmt.Sprint(i+1))
		c.Fetched = *f.now
		f.publish(t, c)
		if got := read(t, filepath.Join(f.target, "a")); got != fmt.Sprint(i+1) {
			t.Fatalf("after step %d a = %q", i, got)
		}
		name, _ := os.Readlink(filepath.Join(f.target, "..data"))
		names = append(names, name)
	}
	if !slices.IsSorted(names) || len(slices.Compact(names)) != 6 {
		t.Errorf("folders are not in the order of publishing: %v", names)
	}
	*f.now = epoch.Add(-10 * time.Hour)
	if fetched, published, err := f.Refreshed(f.target); !fetched.IsZero() || !published || err != nil {
		t.Errorf("a set from the future: Refreshed = %v, %v, %v, want the zero time, true, nil", fetched, published, err)
	}
}

func TestNoFetchTimeIsStale(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	c := content("a", "1")
	c.Fetched = time.Time{}
	f.publish(t, c)
	if fetched, _, _ := f.Refreshed(f.target); !fetched.Equal(time.Unix(0, 0)) {
		t.Errorf("fetched %v, want 1970", fetched)
	}
}

// The time of a set, which stays correct to a millisecond, also stores that it was published in an outage. A refresh that works clears that and
// changes nothing else.
func TestOutageIsWrittenInTheSet(t *testing.T) {
	t.Parallel()
	outage := volume.Errorf(volume.ErrUnavailable, "the vault is away")
	f := newFixture(t, tmpfs.Options{})
	for name, fetched := range map[string]time.Time{
		"any time": epoch.Add(-time.Hour), "a whole second": epoch.Truncate(time.Second), "no time": {},
		"the time of a set from an outage": epoch.Truncate(time.Millisecond).Add(-time.Nanosecond),
	} {
		for _, step := range []struct {
			outage          error
			changed, marked bool
		}{{outage, true, true}, {nil, false, false}, {outage, false, true}, {outage, false, true}, {nil, false, false}, {nil, false, false}} {
			c := content("a", name)
			c.Fetched, c.Outage = fetched, step.outage
			if changed := f.publish(t, c); changed != step.changed {
				t.Errorf("%s: %+v: changed is %v", name, step, changed)
			}
			want := fetched
			if want.IsZero() {
				want = time.Unix(0, 0)
			}
			for process, store := range map[string]fixture{"this process": f, "the next": f.restart(t)} {
				state, err := store.Inspect(t.Context(), f.target)
				if early := want.Sub(state.Fetched); err != nil || state.Outage != step.marked || early < 0 || early > time.Millisecond || state.Unverified {
					t.Errorf("%s: %+v: %s finds %+v, %v", name, step, process, state, err)
				}
			}
		}
	}
}

// A set that was installed and could not be compared is no change by another process, and the next call reports that it is new.
func TestNewSetThatCannotBeCompared(t *testing.T) { //nolint:paralleltest // it limits the open files of the process
	var full unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &full); err != nil {
		t.Fatal(err)
	}
	few := full
	f := newFixture(t, tmpfs.Options{Memory: func() tmpfs.Memory { // asked for before the set is written
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &few)
		return tmpfs.Memory{}
	}})
	deep := strings.Repeat("d/", 30) + "file" // a comparison has all its folders open
	f.publish(t, content(deep, "1"))
	free, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	few.Cur = uint64(free.Fd()) + 16
	_ = free.Close()
	o, err := f.Publish(t.Context(), f.mount(), content(deep, "2"))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &full); err != nil {
		t.Fatal(err)
	}
	few = full
	if !errors.Is(err, unix.EMFILE) || !o.Changed {
		t.Fatalf("Publish = %+v, %v, want a new set and EMFILE", o, err)
	}
	if state, err := f.Inspect(t.Context(), f.target); err != nil || !state.Unverified {
		t.Errorf("Inspect = %+v, %v, want a set that is due", state, err)
	}
	if !f.publish(t, content(deep, "2")) {
		t.Error("the new set is not reported")
	}
	if f.publish(t, content(deep, "2")) {
		t.Error("the new set is reported again")
	}
}
