package tmpfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestFirstPublish(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
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
}

func TestMountOptions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{MaxBytes: 1 << 20, MaxFiles: 16})
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
	if has := strings.Contains(got[0], ",noswap"); has != mountns.Noswap() {
		t.Errorf("noswap: %v, the kernel has it: %v: %s", has, !has, got[0])
	}
	usage, err := f.Usage(f.target)
	if err != nil {
		t.Fatal(err)
	}
	page, size := int64(os.Getpagesize()), int64(2)*(1<<20+32*int64(os.Getpagesize()))
	used := int64(6) // root, folder, file, link, ..data, and the attributes
	if usage.UsedInodes == used-1 {
		used-- // attributes count since Linux 6.6, and a user namespace has none
	}
	want2 := volume.Usage{
		TotalBytes: size, UsedBytes: page, AvailableBytes: size - page,
		TotalInodes: 297, UsedInodes: used, AvailableInodes: 297 - used,
	}
	if d := cmp.Diff(want2, usage); d != "" {
		t.Errorf("usage (-want +got):\n%s", d)
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
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
}

// Modes are the same with a umask of 077.
func TestUmask(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
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
}

func TestSELinuxLabelIsNeverDropped(t *testing.T) {
	t.Parallel()
	if exists("/sys/fs/selinux/enforce") {
		t.Skip("needs a kernel without SELinux, which refuses the option")
	}
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	f := newFixture(t, tmpfs.Options{SELinuxLabel: label})
	_, err := f.Publish(t.Context(), f.mount(), content("a", "1"))
	hint := "invalid argument; if SELinux is off on this node, or its policy does not know " + label + ", set another --selinux-label"
	if !errors.Is(err, unix.EINVAL) || !strings.HasSuffix(err.Error(), hint) {
		t.Errorf("error %v\nwant EINVAL and %s", err, hint)
	}
	if exists(f.target) {
		t.Error("the target is left")
	}
}

func TestPublishIntoExistingFolder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	mkdir(t, f.target)
	f.publish(t, content("a", "1"))
	if n := len(mounts(t, f.target)); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

func TestConcurrentTargets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
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
}

// That a node does not support noswap is logged once, not for each volume.
func TestMissingNoswapIsLoggedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	var log bytes.Buffer
	ctx := klog.NewContext(t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log))))
	for i := range 3 {
		target := f.newTarget(t, fmt.Sprint("v", i))
		for round := range 3 {
			if _, err := f.Publish(ctx, volume.Mount{Target: target}, content("a", fmt.Sprint(round))); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := 1
	if mountns.Noswap() {
		want = 0
	}
	if lines, refused := strings.Count(log.String(), "\n"), strings.Count(log.String(), "refuses the tmpfs option noswap"); lines != want || refused != want {
		t.Errorf("%d lines in the log, %d about noswap, want %d:\n%s", lines, refused, want, &log)
	}
}
