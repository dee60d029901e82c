package tmpfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{MaxBytes: 10, MaxFiles: 2})
	many := volume.Content{}
	for i := range 69 {
		many.Folders = append(many.Folders, fmt.Sprint(i))
	}
	link, file := filepath.Join(f.root, "link"), filepath.Join(f.root, "file")
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	write(t, file, "")
	full := f.newTarget(t, "full")
	if err := os.MkdirAll(full, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(full, "precious"), "")
	foreign, proc := filepath.Join(f.root, "foreign"), filepath.Join(f.root, "proc")
	mountTmpfs(t, foreign)
	t.Cleanup(func() { detach(foreign) })
	write(t, filepath.Join(foreign, "precious"), "")
	bind(t, "/proc/self", proc)

	lost := f.root + "/lost"
	if err := os.Symlink("/none/pods", lost); err != nil {
		t.Fatal(err)
	}

	ok := content("a", "1")
	tests := map[string]struct {
		target   string
		content  volume.Content
		sentinel error
		text     string
	}{
		"bytes": {f.target, content("a", "12345", "b", "678901"), volume.ErrTooLarge,
			"the volume's content is over the limit of 10 bytes (--max-volume-bytes); ask for fewer or smaller objects"},
		"files": {f.target, content("a", "", "b", "", "c", ""), volume.ErrTooLarge,
			"the volume is over the limit of 2 files (--max-volume-files); ask for fewer objects"},
		"folders": {f.target, many, volume.ErrTooLarge,
			"the volume has 69 folders, over the limit of 68 (2 for each of --max-volume-files, and 64)"},
		"outside": {"/etc", ok, volume.ErrInvalid,
			fmt.Sprintf("target path %q does not lie below the kubelet's root %q (--kubelet-root)", "/etc", f.root)},
		"climbing": {f.root + "/pods/../../x", ok, volume.ErrInvalid,
			fmt.Sprintf("target path %q does not lie below the kubelet's root %q (--kubelet-root)", f.root+"/pods/../../x", f.root)},
		"a neighbour": {f.root + "x/y", ok, volume.ErrInvalid,
			fmt.Sprintf("target path %q does not lie below the kubelet's root %q (--kubelet-root)", f.root+"x/y", f.root)},
		"the root": {f.root + "/", ok, volume.ErrInvalid,
			fmt.Sprintf("target path %q does not lie below the kubelet's root %q (--kubelet-root)", f.root+"/", f.root)},
		"relative": {"pods/x", ok, volume.ErrInvalid,
			fmt.Sprintf("target path %q does not lie below the kubelet's root %q (--kubelet-root)", "pods/x", f.root)},
		"hidden path":   {f.target, content("..data", ""), volume.ErrInvalid, `path "..data" cannot stand in a volume`},
		"escaping path": {f.target, content("a/../../b", ""), volume.ErrInvalid, `path "a/../../b" cannot stand in a volume`},
		"hidden folder": {f.target, content("..2026/", ""), volume.ErrInvalid, `path "..2026" cannot stand in a volume`},
		"no path":       {f.target, content("", ""), volume.ErrInvalid, `path "" cannot stand in a volume`},
		"twice":         {f.target, content("a", "", "a", ""), nil, fmt.Sprintf("mount a volume at %q: openat: file exists", f.target)},
		"symbolic link": {link, ok, nil,
			fmt.Sprintf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", link)},
		"symbolic link on the way": {link + "/x", ok, volume.ErrInvalid,
			fmt.Sprintf("target path %q leaves the kubelet's root %q by a symbolic link", link+"/x", f.root)},
		"files of another": {full, ok, nil,
			fmt.Sprintf("target path %q is no mount and not empty: its files are not this driver's; move them away", full)},
		"file": {file, ok, nil,
			fmt.Sprintf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", file)},
		"no parent": {f.root + "/none/x", ok, nil,
			fmt.Sprintf("mount a volume at %q: make the folder of the target: no such file or directory", f.root+"/none/x")},
		"a link that leads nowhere": {lost + "/x/mount", ok, nil,
			fmt.Sprintf("mount a volume at %q: make the folder of the target: the symbolic link %q leads to %q, which is not there for the driver; "+
				"let the kubelet's --root-dir and kubeletRootDir of the chart name the real folder", lost+"/x/mount", lost, "/none/pods")},
		"foreign tmpfs": {foreign, ok, nil,
			fmt.Sprintf(`target path %q holds a file system of type tmpfs from "foreign", which this driver has not mounted; unmount it`, foreign)},
		"foreign mount": {proc, ok, nil,
			fmt.Sprintf(`target path %q holds a file system of type proc from "proc", which this driver has not mounted; unmount it`, proc)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			existed := exists(tt.target)
			o, err := f.Publish(t.Context(), volume.Mount{Target: tt.target}, tt.content)
			if o.Changed {
				t.Error("changed = true")
			}
			wantError(t, err, tt.sentinel, tt.text)
			if exists(tt.target) != existed {
				t.Errorf("target existed before: %v, exists now: %v", existed, !existed)
			}
			if _, published, _ := f.Refreshed(tt.target); published {
				t.Error("a set is published")
			}
		})
	}
	if n := len(mounts(t, foreign)); n != 1 || !exists(filepath.Join(foreign, "precious")) {
		t.Errorf("the foreign tmpfs was touched: %d mounts", n)
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) > 0 || len(mounts(t, elsewhere)) > 0 {
		t.Error("the symbolic link was followed")
	}
}

// A rotation that fails leaves the current set.
func TestFailedRotationKeepsTheSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{MaxBytes: 100, MaxFiles: 3})
	f.publish(t, content("a", "1", "b/c", "2"))
	want := tree(t, f.target)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		next volume.Content
	}{
		"too large":       {t.Context(), content("a", strings.Repeat("x", 101))},
		"canceled":        {canceled, content("a", "2")},
		"canceled midway": {&cancelAfter{Context: t.Context(), calls: 2}, content("a", "2", "new", "3")},
		"canceled late":   {&cancelAfter{Context: t.Context(), calls: 3}, content("a", "2", "new", "3")},
		"breaks midway":   {t.Context(), content("a", "2", "new", "3", "new", "4")},
	} {
		if o, err := f.Publish(tt.ctx, f.mount(), tt.next); err == nil || o.Changed {
			t.Errorf("%s: Publish = %v, %v", name, o.Changed, err)
		} else if strings.HasPrefix(name, "canceled") && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is not context.Canceled", name, err)
		}
		if d := cmp.Diff(want, tree(t, f.target)); d != "" {
			t.Errorf("%s: the set has changed (-before +after):\n%s", name, d)
		}
	}
	if fetched, _, _ := f.Refreshed(f.target); !fetched.Equal(epoch.Add(-time.Second)) {
		t.Errorf("fetched %v after failures only", fetched)
	}
}

// cancelAfter is a context that ends after so many calls of Err.
type cancelAfter struct {
	context.Context
	calls int
}

func (c *cancelAfter) Err() error {
	if c.calls--; c.calls < 0 {
		return context.Canceled
	}
	return nil
}

func TestCanceledFirstPublishLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	for calls := range 5 {
		_, err := f.Publish(&cancelAfter{Context: t.Context(), calls: calls}, f.mount(), content("a", "1"))
		if !errors.Is(err, context.Canceled) {
			if calls >= 3 && err == nil {
				break // Publish calls Err less often
			}
			t.Errorf("%d: error %v", calls, err)
		}
		if exists(f.target) || len(mounts(t, f.target)) > 0 {
			t.Fatalf("canceled after %d steps: the target is left, mounts %v", calls, mounts(t, f.target))
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]tmpfs.Options{
		"no root":        {},
		"relative root":  {KubeletRoot: "var/lib/kubelet"},
		"negative bytes": {KubeletRoot: "/x", MaxBytes: -1},
		"too many files": {KubeletRoot: "/x", MaxFiles: 1<<20 + 1},
	} {
		if _, err := tmpfs.New(o); err == nil || !regexp.MustCompile(`\(--[a-z-]+\)$`).MatchString(err.Error()) {
			t.Errorf("%s: error %v names no flag", name, err)
		}
	}
	if _, err := tmpfs.New(tmpfs.Options{KubeletRoot: "/"}); err != nil {
		t.Errorf("a root of /: %v", err)
	}
}

// A link on the way to a target may lead anywhere in the kubelet's root, relative or absolute.
func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	for link, to := range map[string]string{
		"out": t.TempDir(), "up": "../..", "in": filepath.Join(f.root, "pods"), "beside": "pods", "loop": "loop",
		"process": "/proc/self/root", "twice": filepath.Join(f.root, "in"), "away": filepath.Join(f.root, "out"),
	} {
		if err := os.Symlink(to, filepath.Join(f.root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for folder, want := range map[string]error{
		".": nil, "pods": nil, "in": nil, "beside": nil, "twice": nil, "none/x": unix.ENOENT, "in/none": unix.ENOENT,
		"out": unix.EXDEV, "up": unix.EXDEV, "away": unix.EXDEV, "process": unix.EXDEV, "loop": unix.ELOOP,
	} {
		path, err := f.OpenBelow(folder)
		if !errors.Is(err, want) || err == nil && path != f.root && path != filepath.Join(f.root, "pods") {
			t.Errorf("%s: %s, %v, want %v", folder, path, err, want)
		}
	}
}
