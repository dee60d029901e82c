package tmpfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestFullVolumeRotates(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	long := strings.Repeat("n", 240)
	tests := map[string]struct {
		files int
		set   func(round int) volume.Content
	}{
		"one big file": {1, func(round int) volume.Content {
			return content("big", strings.Repeat(fmt.Sprint(round), limit))
		}},
		"as many files as allowed, which fill their last pages badly": {64, func(round int) volume.Content {
			var c volume.Content
			for i := range 64 {
				data := bytes.Repeat([]byte{byte(round)}, limit/64-4095*(i%2)+4095*((i+1)%2))
				c.Files = append(c.Files, volume.File{Path: fmt.Sprint(i), Data: volume.NewSecret(data)})
			}
			return c
		}},
		"names that need a page each, other ones in each round": {64, func(round int) volume.Content {
			var c volume.Content
			for i := range 64 {
				data := bytes.Repeat([]byte{byte(round)}, limit/64)
				c.Files = append(c.Files, volume.File{Path: fmt.Sprintf("%s-%d-%d", long, i, round), Data: volume.NewSecret(data)})
			}
			return c
		}},
		"as many folders as allowed": {64, func(round int) volume.Content {
			var c volume.Content
			for i := range 64 {
				c.Files = append(c.Files, volume.File{Path: fmt.Sprintf("%s%d/x/%d-%d", long, i, i, round), Data: volume.NewSecret([]byte("x"))})
				c.Folders = append(c.Folders, fmt.Sprint(i))
			}
			return c
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{MaxBytes: limit, MaxFiles: tt.files})
			for round := range 4 {
				c := tt.set(round)
				if changed := f.publish(t, c); !changed {
					t.Error("changed = false")
				}
				for _, file := range c.Files {
					if got := read(t, filepath.Join(f.target, file.Path)); got != string(file.Data.Reveal()) {
						t.Fatalf("round %d: %s does not hold what was published", round, file.Path)
					}
				}
			}
		})
	}
}

// When the tmpfs is full, the current set stays complete.
func TestFullTmpfsKeepsTheSet(t *testing.T) {
	// Not parallel: a process that another test starts holds the descriptor of the file for a moment, and so its memory.
	f := newFixture(t, tmpfs.Options{MaxBytes: 1 << 20, MaxFiles: 8})
	f.publish(t, content("a", "1", "old", "2"))
	ballast := unnamedFile(t, f.target)
	// The volume grows for some rounds because of what is kept open, up to its limit.
	for round := range 10 {
		fill(t, f.target, ballast, 512<<10)
		want := tree(t, f.target)
		name := fmt.Sprint("new", round)
		next := content("a", strings.Repeat("x", 300<<10), name, strings.Repeat(fmt.Sprint(round), 300<<10))
		o, err := f.Publish(t.Context(), f.mount(), next)
		changed := o.Changed
		if err == nil {
			continue
		}
		if changed || round == 0 {
			t.Errorf("round %d: changed = %v", round, changed)
		}
		wantError(t, err, volume.ErrTooLarge, fmt.Sprintf("rotate the volume at %q: no room is left in its tmpfs, though the content is within the limits: "+
			"containers still use too many old sets, by open files or subPath; restart them or raise --max-volume-bytes", f.target))
		if got := tree(t, f.target); !slices.Equal(got, want) {
			t.Error("the volume has changed")
		}
		if err := ballast.Close(); err != nil {
			t.Fatal(err)
		}
		if !f.publish(t, next) {
			t.Error("with free space again, changed = false")
		}
		return
	}
	t.Error("the volume grows without end")
}

// unnamedFile is a removed file in the volume that a container keeps open.
func unnamedFile(t *testing.T, target string) (file *os.File) {
	t.Helper()
	writeBehind(t, target, func(dir string) {
		var err error
		if file, err = os.Create(filepath.Join(dir, "unnamed")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "unnamed")); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// fill enlarges file until so many bytes of the volume are left.
func fill(t *testing.T, target string, file *os.File, left int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		t.Fatal(err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free > left { //nolint:unconvert // Bsize is an int32 on 32-bit architectures
		if _, err := file.Write(make([]byte, free-left)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a killed rotation has left is removed by the next call, also if the content is the same.
func TestLeftoversOfAKilledRotation(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]volume.Content{"rotation": content("a", "2"), "refresh": content("a", "1")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{MaxBytes: 1 << 20, MaxFiles: 4})
			f.publish(t, content("a", "1"))
			writeBehind(t, f.target, func(dir string) {
				half := filepath.Join(dir, "..2026_11_23_02_20_12.000000000")
				mkdir(t, half)
				write(t, filepath.Join(half, "half"), strings.Repeat("x", 1<<20))
				for link, to := range map[string]string{"..data_tmp": filepath.Base(half), "half": "..data/half"} {
					if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
						t.Fatal(err)
					}
				}
			})
			f.publish(t, next)
			f.settle(t, 3, func() error { // ..data, link, folder
				_, err := f.Publish(t.Context(), f.mount(), next)
				return err
			})
			if got := tree(t, f.target); len(got) != 5 { // with root and file
				t.Errorf("the volume holds %v", got)
			}
		})
	}
}

func TestUsageNotFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	folder, foreign := filepath.Join(f.root, "folder"), filepath.Join(f.root, "foreign")
	mkdir(t, folder)
	mountTmpfs(t, foreign)
	t.Cleanup(func() { detach(foreign) })
	for _, path := range []string{f.target, folder, foreign, "some/path", "/", "", "/etc"} {
		if _, err := f.Usage(path); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("Usage(%q): %v, want volume.ErrNotFound", path, err)
		} else if err.Error() != fmt.Sprintf("no volume is mounted at %q", path) {
			t.Error(err)
		}
	}
}
