package tmpfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestFirstPublish(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		c := content("tls/web/key", "k", "password", "geheim", "secrets/", "", "deep/er/", "")
		c.Files[0].Mode = 0o440
		if !f.publish(t, c) {
			t.Error("changed = false for a first publish")
		}
		want := []string{
			"drwxr-xr-x .",
			"drwxr-xr-x SET",
			"drwxr-xr-x SET/deep",
			"drwxr-xr-x SET/deep/er",
			`-rw-r--r-- SET/password "geheim"`,
			"drwxr-xr-x SET/secrets",
			"drwxr-xr-x SET/tls",
			"drwxr-xr-x SET/tls/web",
			`-r--r----- SET/tls/web/key "k"`,
			"Lrwxrwxrwx ..data -> SET",
			"Lrwxrwxrwx deep -> ..data/deep",
			"Lrwxrwxrwx password -> ..data/password",
			"Lrwxrwxrwx secrets -> ..data/secrets",
			"Lrwxrwxrwx tls -> ..data/tls",
		}
		got := tree(t, f.target)
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("tree (-want +got):\n%s", d)
		}
		if name, _ := os.Readlink(filepath.Join(f.target, "..data")); name != "..2026_11_23_02_20_11.123456789" {
			t.Errorf("..data names %q", name)
		}
		fetched, published, err := f.Refreshed(f.target)
		if !fetched.Equal(c.Fetched) || !published || err != nil {
			t.Errorf("Refreshed = %v, %v, %v, want %v, true, nil", fetched, published, err, c.Fetched)
		}
	})
}

func TestMountOptions(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{MaxBytes: 1 << 20, MaxFiles: 16}, func(t *testing.T, f fixture) {
		f.publish(t, content("a", "b"))
		got := mounts(t, f.target)
		if len(got) != 1 {
			t.Fatalf("%d mounts at the target, want 1: %v", len(got), got)
		}
		// 2 sets of 1 MiB and 2×16 pages; 2×(5×16+64+3)+3 inodes.
		want := fmt.Sprintf("ro,nosuid,nodev,noexec,relatime | ro,size=%dk,nr_inodes=297,mode=755", 2*(1024+32*os.Getpagesize()/1024))
		if !strings.HasPrefix(got[0], want) {
			t.Errorf("mounted with\n%s\nwant\n%s", got[0], want)
		}
		if mountns.InUserNamespace() {
			t.Log("noswap is not looked for: the kernel refuses it in a user namespace, which is proven by having got here")
		} else if !strings.Contains(got[0], ",noswap") {
			var u unix.Utsname
			_ = unix.Uname(&u)
			t.Errorf("mounted without noswap on Linux %s: %s", unix.ByteSliceToString(u.Release[:]), got[0])
		}
		usage, err := f.Usage(f.target)
		if err != nil {
			t.Fatal(err)
		}
		page, size := int64(os.Getpagesize()), int64(2)*(1<<20+32*int64(os.Getpagesize()))
		used := int64(6) // root, folder, file, link, ..data, and the marks
		if mountns.InUserNamespace() {
			used-- // which has none
		}
		want2 := volume.Usage{
			TotalBytes: size, UsedBytes: page, AvailableBytes: size - page,
			TotalInodes: 297, UsedInodes: used, AvailableInodes: 297 - used,
		}
		if d := cmp.Diff(want2, usage); d != "" {
			t.Errorf("usage (-want +got):\n%s", d)
		}
	})
}

func TestGroup(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		gid := uint32(2000)
		if mountns.InUserNamespace() {
			gid = 0 // the only one that exists there
		}
		m := volume.Mount{Target: f.target, Group: &gid}
		for _, c := range []volume.Content{content("a", "1", "b/c", "2", "e/", ""), content("a", "3", "b/c", "4", "e/", "")} {
			c.Files[1].Mode = 0o604
			if o, err := f.Publish(t.Context(), m, c); !o.Changed || err != nil {
				t.Fatalf("Publish = %v, %v, want true, nil", o.Changed, err)
			}
			if o, err := f.Publish(t.Context(), m, c); o.Changed || err != nil {
				t.Fatalf("the same again: Publish = %v, %v, want false, nil", o.Changed, err)
			}
			for path, want := range map[string]uint32{
				"": 0o42750, "..data": 0o42750, "b": 0o42750, "e": 0o42750, "a": 0o100640, "b/c": 0o100604,
			} {
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(f.target, path), &st); err != nil {
					t.Fatal(err)
				}
				if st.Mode != want || st.Gid != gid || st.Uid != 0 {
					t.Errorf("%q: mode %o uid %d gid %d, want %o 0 %d", path, st.Mode, st.Uid, st.Gid, want, gid)
				}
			}
		}
	})
}

// With a umask of 077 modes must come out the same.
func TestUmask(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		gid := uint32(2000)
		if mountns.InUserNamespace() {
			gid = 0
		}
		plain, grouped := f.newTarget(t, "plain"), f.newTarget(t, "grouped")
		runChild(t, "umask", f, plain, grouped, fmt.Sprint(gid))
		for path, want := range map[string]uint32{
			plain + "/a/": 0o40755, plain + "/a/a": 0o100600, plain + "/a/b": 0o100644, plain + "/a/c": 0o100666,
			grouped + "/a/": 0o42750, grouped + "/a/a": 0o100600, grouped + "/a/b": 0o100640, grouped + "/a/c": 0o100666,
		} {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode != want {
				t.Errorf("%s: mode %o, want %o", path, st.Mode, want)
			}
		}
	})
}

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
			ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
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
		})
	}
}

// visible lists the names that a pod sees in its volume.
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
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
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
	})
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

// That a set was made in an outage is written in the set: in its time, which stays true to a millisecond. A refresh that works takes it
// away and changes nothing else.
func TestOutageIsWrittenInTheSet(t *testing.T) {
	t.Parallel()
	outage := volume.Errorf(volume.ErrUnavailable, "the vault is away")
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
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
	})
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{MaxBytes: 10, MaxFiles: 2}, func(t *testing.T, f fixture) {
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
			"files of somebody": {full, ok, nil,
				fmt.Sprintf("target path %q is no mount and not empty: its files are not this driver's; move them away", full)},
			"file": {file, ok, nil,
				fmt.Sprintf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", file)},
			"no parent": {f.root + "/none/x", ok, nil,
				fmt.Sprintf("mount a volume at %q: make the folder of the target: no such file or directory", f.root+"/none/x")},
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
	})
}

// The same refusals on a target that holds a set leave that set.
func TestFailedRotationKeepsTheSet(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{MaxBytes: 100, MaxFiles: 3}, func(t *testing.T, f fixture) {
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
	})
}

// cancelAfter is a context that ends when it has been asked for its error so many times.
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
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		for calls := range 5 {
			_, err := f.Publish(&cancelAfter{Context: t.Context(), calls: calls}, f.mount(), content("a", "1"))
			if !errors.Is(err, context.Canceled) {
				if calls >= 3 && err == nil {
					break // it has been asked for less often
				}
				t.Errorf("%d: error %v", calls, err)
			}
			if exists(f.target) || len(mounts(t, f.target)) > 0 {
				t.Fatalf("canceled after %d steps: the target is left, mounts %v", calls, mounts(t, f.target))
			}
		}
	})
}

func TestSELinuxLabelIsNeverDropped(t *testing.T) {
	t.Parallel()
	if exists("/sys/fs/selinux/enforce") {
		t.Skip("needs a kernel without SELinux, which refuses the option")
	}
	ways(t, tmpfs.Options{SELinuxLabel: "system_u:object_r:container_file_t:s0:c1,c2"}, func(t *testing.T, f fixture) {
		if _, err := f.Publish(t.Context(), f.mount(), content("a", "1")); !errors.Is(err, unix.EINVAL) {
			t.Errorf("error %v, want EINVAL", err)
		}
		if exists(f.target) {
			t.Error("the target is left")
		}
	})
}

func TestPublishIntoExistingFolder(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		mkdir(t, f.target)
		f.publish(t, content("a", "1"))
		if n := len(mounts(t, f.target)); n != 1 {
			t.Errorf("%d mounts", n)
		}
	})
}

func TestConcurrentTargets(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		var all sync.WaitGroup
		for i := range 16 {
			target := f.newTarget(t, fmt.Sprint("v", i))
			all.Go(func() {
				for round := range 10 {
					c := content("name", fmt.Sprint(i), "round", fmt.Sprint(round))
					if _, err := f.Publish(t.Context(), volume.Mount{Target: target}, c); err != nil {
						t.Error(err)
					}
					if got, _ := os.ReadFile(filepath.Join(target, "name")); string(got) != fmt.Sprint(i) {
						t.Errorf("volume %d holds that of %q", i, got)
					}
				}
				if err := f.Unpublish(target); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
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

// A link on the way to a target may lead anywhere in the kubelet's root, whether it says so from there or from "/", and with
// or without openat2(2), which Linux has since 5.6.
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
		path, err := f.Open(folder)
		if !errors.Is(err, want) || err == nil && path != f.root && path != filepath.Join(f.root, "pods") {
			t.Errorf("%s: %s, %v, want %v", folder, path, err, want)
		}
	}
}
