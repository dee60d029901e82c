package tmpfs_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Every change by another process is reported and reverted, and no call hangs, fails or writes elsewhere.
func TestTamperedVolumes(t *testing.T) {
	t.Parallel()
	const (
		files   = "the names, bytes, modes or owners of its files"
		beside  = "what stands beside its files: a name that is none of its links"
		strange = "its files: something that is neither a file nor a folder"
	)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "precious")
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"overwritten": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "..data", "a"), "forged") }, files},
		"same size":   {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "..data", "a"), "2") }, files},
		"mode":        {func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "..data", "a"), 0o666)) }, files},
		"mode of the set": {func(t *testing.T, dir string) {
			must(t, os.Chmod(filepath.Join(dir, "..data"), 0o777))
		}, files},
		"mode of the root":      {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o1777)) }, "the mode or the owner of its root folder"},
		"file added to the set": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "..data", "b", "x"), "1") }, files},
		"file removed":          {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "..data", "a"))) }, files},
		"file added":            {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "x"), "1") }, beside},
		"link removed":          {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "a"))) }, "links to its files are missing"},
		"link replaced by a file": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "a")))
			write(t, filepath.Join(dir, "a"), "f")
		}, beside},
		"link to elsewhere": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "a")), os.Symlink(outside, filepath.Join(dir, "a")))
		}, beside},
		"link replaced by a FIFO": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "a")), unix.Mkfifo(filepath.Join(dir, "a"), 0o600))
		}, beside},
		"FIFO in the set": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "..data", "a")), unix.Mkfifo(filepath.Join(dir, "..data", "a"), 0o600))
		}, strange},
		"symbolic link in the set": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "..data", "a")), os.Symlink(outside, filepath.Join(dir, "..data", "a")))
		}, strange},
		"folder replaced by a link": {func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "..data", "b")), os.Symlink(filepath.Dir(outside), filepath.Join(dir, "..data", "b")))
		}, strange},
		"..data removed": {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "..data"))) }, "..data, which leads to its files, is gone"},
		"..data is a folder": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "..data")), os.MkdirAll(filepath.Join(dir, "..data", "a", "x"), 0o700))
		}, "..data, which leads to its files, is gone"},
		"..data leads out": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "..data")), os.Symlink(filepath.Dir(outside), filepath.Join(dir, "..data")))
		}, "..data, which leads to its files, is gone"},
		"another set": {func(t *testing.T, dir string) {
			set := filepath.Join(dir, "..2027_01_01_00_00_00.000000000")
			mkdir(t, set)
			write(t, filepath.Join(set, "a"), "forged")
			must(t, os.Chtimes(set, epoch.Add(-time.Hour), epoch.Add(-time.Hour)), os.Remove(filepath.Join(dir, "..data")), os.Symlink(filepath.Base(set), filepath.Join(dir, "..data")))
		}, files},
		"time in the future": {func(t *testing.T, dir string) {
			late := time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC) // later ones do not fit into the time of 32-bit systems
			must(t, os.Chtimes(filepath.Join(dir, "..data"), late, late))
		}, "the time of its files"},
		"deep folders": {func(t *testing.T, dir string) { nest(t, filepath.Join(dir, "deep"), 3000) }, beside},
		"deep folders in the set": {func(t *testing.T, dir string) {
			nest(t, filepath.Join(dir, "..data", "b", "deep"), 3000)
		}, "its files: folders that are nested deeper than any of its own"},
		"a file without an end": {func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, "..data", "a"), 1<<40))
		}, "its files: more bytes than the volume can hold"},
		"everything removed": {func(t *testing.T, dir string) {
			entries, err := os.ReadDir(dir)
			must(t, err)
			for _, e := range entries {
				must(t, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}, "..data, which leads to its files, is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{})
			next := content("a", "1", "b/c", "2")
			f.publish(t, next)
			container := f.container(t)
			want := tree(t, f.target)
			writeBehind(t, f.target, func(dir string) { tt.change(t, dir) })

			next.Fetched = next.Fetched.Add(time.Millisecond)
			o, err := f.Publish(t.Context(), f.mount(), next)
			if err != nil || o != (volume.Outcome{Changed: true, Tampered: tt.want}) {
				t.Errorf("Publish = %+v, %v, want Tampered %q", o, err, tt.want)
			}
			for _, dir := range []string{f.target, container} {
				if got := tree(t, dir); !slices.Equal(got, want) {
					t.Errorf("%s holds\n%s\nwant\n%s", dir, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			if f.publish(t, next) {
				t.Error("the next refresh was not clean")
			}
			if got := read(t, outside); got != "precious" {
				t.Errorf("the file outside holds %q", got)
			}
			if err := f.Unpublish(f.target); err != nil {
				t.Error(err)
			}
		})
	}
}

// nest makes nested folders, deeper than the longest path.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	mkdir(t, dir)
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range depth {
		if err == nil {
			err = unix.Mkdirat(at, "d", 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		var next int
		next, err = unix.Openat(at, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		_ = unix.Close(at)
		at = next
	}
	_ = unix.Close(at)
}

// A daemon with CAP_SYS_ADMIN alone repairs folders whose mode denies access to their owner.
func TestClosedFolders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("a", "1", "b/c", "2"))
	want := tree(t, f.target)
	writeBehind(t, f.target, func(dir string) {
		mkdir(t, filepath.Join(dir, "added", "deep"))
		for _, folder := range []string{"added/deep", "added", "..data/b", "..data"} {
			if err := os.Chmod(filepath.Join(dir, folder), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	without(t, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH)(func() {
		next := content("a", "1", "b/c", "2")
		o, err := f.Publish(context.Background(), f.mount(), next)
		if err != nil || !o.Changed || o.Tampered != "its files: some that change while they are read, or that may not be read" {
			t.Errorf("Publish = %+v, %v", o, err)
		}
	})
	if got := tree(t, f.target); !slices.Equal(got, want) {
		t.Errorf("the volume holds\n%s", strings.Join(got, "\n"))
	}
}

// No text of the driver contains a name or a byte that a container has chosen: it may be a secret.
func TestTamperingIsReportedWithoutNames(t *testing.T) {
	t.Parallel()
	const marker = "hunter2-of-the-neighbour"
	f := newFixture(t, tmpfs.Options{})
	for i, plant := range []string{marker, "..data/" + marker, "..data/b/" + marker} {
		f.publish(t, content("a", "1", "b/c", "2"))
		writeBehind(t, f.target, func(dir string) {
			if err := unix.Mkfifo(filepath.Join(dir, plant), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		o, err := f.Publish(t.Context(), f.mount(), content("a", "1", "b/c", "2"))
		if err != nil || o.Tampered == "" || strings.Contains(o.Tampered, marker) {
			t.Errorf("%d: %+v, %v", i, o, err)
		}
	}
}

// A set that a container has made, deeper than any path, is removed beside a set that a subPath uses.
func TestDeepSetBesideASubPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("a", "1"))
	bind(t, filepath.Join(f.target, "a"), f.subPath("app", 0))
	const added = "..2020_01_01_00_00_00.000000000"
	writeBehind(t, f.target, func(dir string) { nest(t, filepath.Join(dir, added), 20_000) })
	if o, err := f.Publish(t.Context(), f.mount(), content("a", "2")); err != nil || !o.Changed {
		t.Errorf("%+v, %v", o, err)
	}
	if exists(filepath.Join(f.target, added)) {
		t.Error("the added set is left")
	}
	if got := read(t, f.subPath("app", 0)); got != "1" {
		t.Errorf("the subPath holds %q", got)
	}
}

// A container of the user that owns the files may take a lease on one, also where it cannot write. Then nobody else can open the file
// without waiting. The next set is written all the same, and the file counts as open.
func TestLeasedFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("a", "1", "b", "1"))
	leased, err := os.Open(filepath.Join(f.target, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leased.Close() }()
	if _, err := unix.FcntlInt(leased.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	for _, want := range []volume.Outcome{
		{Changed: true, Tampered: "its files: one that cannot be read, because a process has a lease on it (F_SETLEASE)"}, {Changed: true},
	} {
		next := content("a", "2", "b", want.Tampered)
		if o, err := f.Publish(t.Context(), f.mount(), next); err != nil || o != want {
			t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
		}
		if got := read(t, filepath.Join(f.target, "b")); got != want.Tampered {
			t.Errorf("b = %q", got)
		}
	}
}
