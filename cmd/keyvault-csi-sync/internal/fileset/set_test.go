package fileset_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/fileset"
)

// volume is a folder whose files change as the driver changes them.
type volume struct {
	t    *testing.T
	path string
	sets int
}

func (v *volume) write(files map[string]string) {
	v.t.Helper()
	v.sets++
	name := fmt.Sprintf("..set%d", v.sets)
	must := func(err error) {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(v.path, name), 0o755))
	for path, content := range files {
		file := filepath.Join(v.path, name, path)
		must(os.MkdirAll(filepath.Dir(file), 0o755))
		must(os.WriteFile(file, []byte(content), 0o644))
	}
	old, _ := os.Readlink(filepath.Join(v.path, "..data"))
	must(os.Symlink(name, filepath.Join(v.path, "..data_tmp")))
	must(os.Rename(filepath.Join(v.path, "..data_tmp"), filepath.Join(v.path, "..data")))
	if old != "" {
		must(os.RemoveAll(filepath.Join(v.path, old)))
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	v := &volume{t: t, path: t.TempDir()}
	if _, err := fileset.Read(v.path, []string{"a"}, 100); err == nil {
		t.Error("a folder without ..data is read")
	}
	v.write(map[string]string{"a": "one", "sub/b": "two", "empty": ""})
	set, err := fileset.Read(v.path, []string{"a", "sub/b", "empty", "missing", "a"}, 6)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a": "one", "sub/b": "two", "empty": ""} {
		if got, err := set.File(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := set.File("missing"); err == nil || err.Error() != `the volume has no file "missing"` {
		t.Errorf("missing: %v", err)
	}
	if set.Version != "..set1" || time.Since(set.Time) > time.Hour {
		t.Errorf("version %s, time %s", set.Version, set.Time)
	}
	for _, path := range []string{"sub", "../" + filepath.Base(v.path)} {
		if _, err := fileset.Read(v.path, []string{path}, 100); err == nil {
			t.Errorf("%s is read", path)
		}
	}
	if _, err := fileset.Read(v.path, []string{"a", "sub/b"}, 5); err == nil {
		t.Error("files over the limit are read")
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(v.path, "..data", "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := fileset.Read(v.path, []string{"link"}, 1<<20); err == nil {
		t.Error("a link out of the volume is followed")
	}
}

// A set never has files of two versions, and never lacks one, while the volume is replaced.
func TestNeverTorn(t *testing.T) {
	t.Parallel()
	v := &volume{t: t, path: t.TempDir()}
	files := func(i int) map[string]string {
		content := fmt.Sprint(i)
		return map[string]string{"a": content, "b": content, "c": content}
	}
	v.write(files(0))
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	reads := 0
	readers.Go(func() {
		for ctx.Err() == nil {
			set, err := fileset.Read(v.path, []string{"a", "b", "c"}, 1000)
			if err != nil {
				continue // replaced ten times while it was read
			}
			reads++
			a, _ := set.File("a")
			for _, path := range []string{"b", "c"} {
				if other, err := set.File(path); err != nil || !bytes.Equal(other, a) {
					t.Errorf("a is %s, %s is %s, %v", a, path, other, err)
				}
			}
		}
	})
	for i := range 500 {
		v.write(files(i))
	}
	cancel()
	readers.Wait()
	if reads == 0 {
		t.Error("no set was read")
	}
}

// A change is reported, and a refresh without one is not.
func TestWatch(t *testing.T) {
	t.Parallel()
	v := &volume{t: t, path: t.TempDir()}
	v.write(map[string]string{"a": "one"})
	changed := make(chan struct{}, 1)
	if err := fileset.Watch(t.Context(), changed, v.path); err != nil {
		t.Fatal(err)
	}
	await := func() {
		t.Helper()
		timer := time.NewTimer(time.Minute)
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
			t.Fatal("the change was not reported")
		}
	}
	for range 3 {
		v.write(map[string]string{"a": "next"})
		await()
	}
	if err := fileset.Watch(t.Context(), changed, filepath.Join(v.path, "missing")); err == nil {
		t.Error("a missing folder is watched")
	}
}
