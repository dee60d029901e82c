package tmpfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
)

// container mounts the volume as runc does since 1.2 and crun since its change 2247 for a container without readOnly: a bind mount,
// remounted with no flags.
func (f fixture) container(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "container")
	bind(t, f.target, dir)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("in a user namespace the flags of a mount cannot be cleared")
		}
		t.Fatal(err)
	}
	return dir
}

// writes tries all the ways in which the root of a container can change the volume at dir.
func writes(dir string) map[string]error {
	file, set := filepath.Join(dir, "dir", "file0"), filepath.Join(dir, "..data")
	all := map[string]error{
		"create":    os.WriteFile(filepath.Join(dir, "evil"), nil, 0o600),
		"overwrite": os.WriteFile(file, []byte("x"), 0o600),
		"truncate":  os.Truncate(file, 0),
		"chmod":     os.Chmod(file, 0o777),
		"chown":     os.Lchown(file, 1, 1),
		"mkdir":     os.Mkdir(filepath.Join(set, "evil"), 0o700),
		"symlink":   os.Symlink("/etc", filepath.Join(dir, "evil-symlink")),
		"link":      os.Link(file, filepath.Join(dir, "evil-link")),
		"mkfifo":    unix.Mkfifo(filepath.Join(dir, "evil-fifo"), 0o600),
		"unlink":    os.Remove(set),
		"rename":    os.Rename(filepath.Join(dir, "dir"), filepath.Join(dir, "evil-rename")),
		"chtimes":   os.Chtimes(set, time.Now(), time.Now()),
		"setxattr":  unix.Setxattr(file, "trusted.evil", []byte("x"), 0),
	}
	return all
}

// wantReadOnly wants EROFS from all writes. In a damaged volume names may be missing or in use: there it only wants them to fail.
func wantReadOnly(t *testing.T, dir string, damaged bool) {
	t.Helper()
	for what, err := range writes(dir) {
		if !errors.Is(err, unix.EROFS) && (err == nil || !damaged) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

// The file system is read-only between rotations that race with an attacker, whatever flags the mount of the container has.
func TestSuperblockIsReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	rounds := suite.Rounds(100, 1000)
	f.publish(t, numbered(0))
	dir := f.container(t)
	wantReadOnly(t, dir, false)

	var stop atomic.Bool
	var attacker sync.WaitGroup
	hits := 0
	attacker.Go(func() {
		for !stop.Load() {
			for _, err := range writes(dir) {
				if err == nil {
					hits++
				}
			}
		}
	})
	var tampered, contested int
	for i := range rounds {
		o, err := f.Publish(t.Context(), f.mount(), numbered(i+1))
		switch {
		case err != nil && strings.Contains(err.Error(), "a container has changed "):
			contested++
		case err != nil:
			t.Fatal(err)
		default:
			checkNumbered(t, f.target)
			if entries, _ := os.ReadDir(f.target); len(entries) > 4+2 { // set, ..data, dir, only-N, and sets that are open
				t.Errorf("after a refresh without an error the volume holds %v", tree(t, f.target))
			}
		}
		if o.Tampered != "" {
			tampered++
		}
		if o.Writable == "" {
			wantReadOnly(t, dir, err != nil)
		}
	}
	stop.Store(true)
	attacker.Wait()
	t.Logf("%d rotations: the attacker wrote %d times; reported %d times, repaired %d times", rounds, hits, tampered, tampered-contested)
	if hits > 0 && tampered == 0 {
		t.Error("no change was noticed")
	}
	if _, err := f.Publish(t.Context(), f.mount(), numbered(0)); err != nil {
		t.Fatalf("after the attacker: %v", err)
	}
	f.publish(t, numbered(rounds))
	checkNumbered(t, f.target)
	wantReadOnly(t, dir, false)
}

// A container that holds a file open for writing keeps the file system writable. Each refresh reports that and reverts what it has
// written; when the file is closed the volume is read-only again.
func TestHeldOpenForWriting(t *testing.T) {
	t.Parallel()
	const reported = "the volume's file system could not be made read-only again: a container has a file of it open for writing, " +
		"or has a removed file or folder of it open; restart that container"
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("password", "secret"))
	dir := f.container(t)
	var held *os.File
	writeBehind(t, f.target, func(string) {
		var err error
		if held, err = os.OpenFile(filepath.Join(dir, "password"), os.O_WRONLY, 0); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = held.Close() }()
	next := content("password", "secret")
	for round, want := range []string{"", "the names, bytes, modes or owners of its files", "", "what stands beside its files: a name that is none of its links"} {
		if round == 1 {
			if _, err := held.WriteAt([]byte("FORGED"), 0); err != nil {
				t.Fatal(err)
			}
		}
		if round == 3 {
			if err := os.WriteFile(filepath.Join(dir, "added"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		next.Fetched = next.Fetched.Add(time.Millisecond)
		o, err := f.Publish(t.Context(), f.mount(), next)
		if err != nil || o.Writable != reported || o.Tampered != want {
			t.Errorf("round %d: %+v, %v", round, o, err)
		}
		if got := read(t, filepath.Join(dir, "password")); got != "secret" {
			t.Errorf("round %d: password = %q", round, got)
		}
		if state, err := f.Inspect(t.Context(), f.target); !state.Unverified || err != nil {
			t.Errorf("round %d: %+v, %v, want a set that is due", round, state, err)
		}
	}
	_ = held.Close()
	if state, err := f.Inspect(t.Context(), f.target); !state.Unverified || err != nil {
		t.Errorf("%+v, %v, want a set that is due", state, err)
	}
	f.publish(t, next)
	if state, err := f.Inspect(t.Context(), f.target); state.Unverified || err != nil {
		t.Errorf("%+v, %v, want a set that is verified", state, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "evil"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("create: %v, want EROFS", err)
	}
}

// A reader that keeps a file of a replaced set open does not keep the file system writable: that set is kept until the file is closed, up to
// two sets.
func TestReplacedSetsThatAreOpen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	sets := func() int {
		all, err := filepath.Glob(filepath.Join(f.target, "..20*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	f.publish(t, content("a", "0"))
	dir := f.container(t)
	var readers []*os.File
	open := func() {
		r, err := os.Open(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	for i, want := range []int{2, 3} {
		open()
		f.publish(t, content("a", fmt.Sprint(i+1)))
		if got := sets(); got != want {
			t.Errorf("%d sets, want %d", got, want)
		}
	}
	open()
	o, err := f.Publish(t.Context(), f.mount(), content("a", "3"))
	if err != nil || o.Writable == "" || sets() != 3 {
		t.Errorf("a third set that is open: %+v, %v, %d sets", o, err, sets())
	}
	for _, r := range readers {
		_ = r.Close()
	}
	f.publish(t, content("a", "3"))
	if got := sets(); got != 1 {
		t.Errorf("%d sets when all files are closed", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "evil"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("create: %v, want EROFS", err)
	}
}
