package tmpfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestUnpublish(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, f fixture){
		"a volume":        func(t *testing.T, f fixture) { f.publish(t, content("a", "1")) },
		"never published": func(*testing.T, fixture) {},
		"an empty folder": func(t *testing.T, f fixture) { mkdir(t, f.target) },
		"parent gone": func(t *testing.T, f fixture) {
			if err := os.Remove(filepath.Dir(f.target)); err != nil {
				t.Fatal(err)
			}
		},
		"busy": func(t *testing.T, f fixture) {
			f.publish(t, content("a", "1"))
			open, err := os.Open(filepath.Join(f.target, "a"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = open.Close() })
		},
		"stacked": func(t *testing.T, f fixture) {
			f.publish(t, content("a", "1"))
			for range 3 {
				mountTmpfs(t, f.target)
			}
		},
		"half made": func(t *testing.T, f fixture) {
			mountTmpfs(t, f.target)
			mkdir(t, filepath.Join(f.target, "..2026_11_23_02_20_12.000000000"))
		},
		"bound by a container": func(t *testing.T, f fixture) {
			f.publish(t, content("a", "1"))
			bind(t, filepath.Join(f.target, "a"), f.subPath("app", 0))
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{})
			prepare(t, f)
			for range 2 { // the second call is no error
				if err := f.Unpublish(f.target); err != nil {
					t.Fatal(err)
				}
				if exists(f.target) || len(mounts(t, f.target)) > 0 {
					t.Fatalf("left: target %v, mounts %v", exists(f.target), mounts(t, f.target))
				}
			}
			if _, published, err := f.Refreshed(f.target); published || err != nil {
				t.Errorf("Refreshed: published = %v, err = %v", published, err)
			}
		})
	}
}

func TestUnpublishLeavesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})

	mkdir(t, f.target)
	write(t, filepath.Join(f.target, "precious"), "")
	wantError(t, f.Unpublish(f.target), nil, fmt.Sprintf(
		"target path %q is no mount and not empty: its files are not this driver's and are left alone; move them away", f.target))
	if !exists(filepath.Join(f.target, "precious")) {
		t.Error("a file in a folder that is no mount was deleted")
	}

	elsewhere, link, file := filepath.Join(f.root, "elsewhere"), filepath.Join(f.root, "link"), filepath.Join(f.root, "file")
	mountTmpfs(t, elsewhere)
	t.Cleanup(func() { detach(elsewhere) })
	write(t, file, "")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{link, file, filepath.Join(file, "below")} {
		if err := f.Unpublish(target); err != nil {
			t.Errorf("Unpublish(%q): %v", target, err)
		}
	}
	if !exists(link) || !exists(file) || len(mounts(t, elsewhere)) != 1 {
		t.Error("a link or a file was touched, or the link followed")
	}

	if err := f.Unpublish("/etc"); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("Unpublish(/etc): %v, want volume.ErrInvalid", err)
	}
}

// A volume without ..data is filled by the next call, and reported, because the driver leaves none.
func TestIncompleteVolumeIsFilled(t *testing.T) {
	t.Parallel()
	for name, half := range map[string]func(t *testing.T, target string){
		"empty": func(*testing.T, string) {},
		"a set": func(t *testing.T, target string) {
			mkdir(t, filepath.Join(target, "..2026_11_23_02_20_12.000000000", "x"))
		},
		"links": func(t *testing.T, target string) {
			mkdir(t, filepath.Join(target, "..2026_11_23_02_20_12.000000000"))
			if err := os.Symlink("..data/a", filepath.Join(target, "a")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{})
			mountTmpfs(t, f.target)
			half(t, f.target)
			remountReadOnly(t, f.target) // with the flags of a volume
			if _, published, err := f.Refreshed(f.target); published || err != nil {
				t.Errorf("Refreshed: published = %v, err = %v", published, err)
			}
			want := volume.Outcome{Changed: true, Tampered: "..data, which leads to its files, is gone"}
			if o, err := f.Publish(t.Context(), f.mount(), content("a", "1")); err != nil || o != want {
				t.Errorf("Publish: %+v, %v, want %+v", o, err, want)
			}
			if got := read(t, filepath.Join(f.target, "a")); got != "1" || len(mounts(t, f.target)) != 1 {
				t.Errorf("a = %q, mounts %v", got, mounts(t, f.target))
			}
		})
	}
}
