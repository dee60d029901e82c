package tmpfs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// container gives the volume to a container as runc does since 1.2 and crun since its change 2247, if the pod does not ask for a
// read-only mount: a bind mount, remounted with no flags at all.
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

// writes are all the ways of the root of a container to change the volume at dir.
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

// wantReadOnly wants EROFS from everything; of a volume that the driver could not put right, whose names may be gone or taken, that
// nothing succeeds.
func wantReadOnly(t *testing.T, dir string, spoilt bool) {
	t.Helper()
	for what, err := range writes(dir) {
		if !errors.Is(err, unix.EROFS) && (err == nil || !spoilt) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

// At rest the file system is read-only, whatever the mount of a container allows; also between rotations that race with an attacker.
func TestSuperblockIsReadOnly(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
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
		t.Logf("%d rotations: the attacker wrote %d times; told %d times, put right %d times", rounds, hits, tampered, tampered-contested)
		if hits > 0 && tampered == 0 {
			t.Error("no change was noticed")
		}
		if _, err := f.Publish(t.Context(), f.mount(), numbered(0)); err != nil {
			t.Fatalf("after the attacker: %v", err)
		}
		f.publish(t, numbered(rounds))
		checkNumbered(t, f.target)
		wantReadOnly(t, dir, false)
	})
}

// A container that holds a file open for writing keeps the file system writable. That is told at each refresh, what it writes does
// not survive one, and when it lets go the volume is read-only again.
func TestHeldOpenForWriting(t *testing.T) {
	t.Parallel()
	const told = "the volume's file system could not be made read-only again: a container has a file of it open for writing, " +
		"or has a removed file or folder of it open; restart that container"
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		f.publish(t, content("password", "secret"))
		dir := f.container(t)
		var held *os.File
		backDoor(t, f.target, func(string) {
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
				if err := os.WriteFile(filepath.Join(dir, "planted"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			next.Fetched = next.Fetched.Add(time.Millisecond)
			o, err := f.Publish(t.Context(), f.mount(), next)
			if err != nil || o.Writable != told || o.Tampered != want {
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
	})
}

// A change is told from a rotation: new content is no tampering, with and without a memory of what was written.
func TestRotationIsNoTampering(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		f.publish(t, content("a", "1", "b/c", "2"))
		f.publish(t, content("a", "2", "c", "2"))
		restarted := f.restart(t)
		if state, err := restarted.Inspect(t.Context(), f.target); err != nil || state.Unverified || !state.Published {
			t.Errorf("after a restart: %+v, %v", state, err)
		}
		restarted.publish(t, content("a", "3", "b/d", "2"))
	})
}

// restart gives the store that a new process has.
func (f fixture) restart(t *testing.T) fixture {
	t.Helper()
	s, err := tmpfs.New(tmpfs.Options{KubeletRoot: f.root, Now: func() time.Time { return *f.now }})
	if err != nil {
		t.Fatal(err)
	}
	if tmpfs.UsesClassic(f.Store) {
		tmpfs.UseClassic(s)
	}
	f.Store = s
	return f
}

// A process that is killed while the file system is writable leaves it so. The first call of the next one makes it read-only, and the
// set is due at once, because a container may have written meanwhile.
func TestKilledWhileWritable(t *testing.T) {
	t.Parallel()
	for name, forged := range map[string]bool{"honest": false, "forged": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
				next := numbered(1)
				next.Fetched = epoch
				f.publish(t, next)
				dir := f.container(t)
				unlock(t, f.target)
				if forged {
					if err := os.WriteFile(filepath.Join(dir, "dir", "file0"), []byte("FORGED"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				restarted := f.restart(t)
				state, err := restarted.Inspect(t.Context(), f.target)
				if err != nil || !state.Published || !state.Unverified || state.Fetched.IsZero() {
					t.Errorf("%+v, %v, want a set that is due, and its time", state, err)
				}
				wantReadOnly(t, dir, false)
				if again, _ := restarted.Inspect(t.Context(), f.target); !again.Unverified {
					t.Error("it is due no more, though nobody has compared it")
				}
				want := volume.Outcome{}
				if forged {
					want = volume.Outcome{Changed: true, Tampered: "the names, bytes, modes or owners of its files"}
				}
				if mountns.InUserNamespace() {
					want.Tampered = "" // what was written is kept in an attribute that takes CAP_SYS_ADMIN of the machine
				}
				if o, err := restarted.Publish(t.Context(), f.mount(), next); err != nil || o != want {
					t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
				}
				checkNumbered(t, dir)
				if again, _ := restarted.Inspect(t.Context(), f.target); again.Unverified {
					t.Error("it is still due")
				}
			})
		})
	}
}

// A new process tells a set that a container has put in place of the driver's own from one whose content is out of date.
func TestForgedSetAfterARestart(t *testing.T) {
	t.Parallel()
	if mountns.InUserNamespace() {
		t.Skip("what was written is kept in an attribute that takes CAP_SYS_ADMIN of the machine")
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"out of date": {func(*testing.T, string) {}, ""},
		"bytes":       {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "..data", "a"), "f") }, "the names, bytes, modes or owners of its files"},
		"another set": {func(t *testing.T, dir string) {
			set := filepath.Join(dir, "..2020_01_01_00_00_00.000000000")
			mkdir(t, set)
			write(t, filepath.Join(set, "a"), "f")
			if err := errors.Join(os.Remove(filepath.Join(dir, "..data")), os.Symlink(filepath.Base(set), filepath.Join(dir, "..data"))); err != nil {
				t.Fatal(err)
			}
		}, "the names, bytes, modes or owners of its files"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
				f.publish(t, content("a", "1"))
				backDoor(t, f.target, func(dir string) { tt.change(t, dir) })
				restarted := f.restart(t)
				if _, err := restarted.Inspect(t.Context(), f.target); err != nil {
					t.Fatal(err)
				}
				o, err := restarted.Publish(t.Context(), f.mount(), content("a", "2"))
				if want := (volume.Outcome{Changed: true, Tampered: tt.want}); err != nil || o != want {
					t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
				}
			})
		})
	}
}

// A process that has not written a file which it may not read cannot say whether somebody has changed it.
func TestUnreadableFilesAfterARestart(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		without(t, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH)(func() {
			next := content("a", "1")
			next.Files[0].Mode = 0o040
			publish := func(want volume.Outcome) {
				t.Helper()
				next.Fetched = next.Fetched.Add(time.Millisecond)
				if o, err := f.Publish(context.Background(), f.mount(), next); err != nil || o != want {
					t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
				}
			}
			publish(volume.Outcome{Changed: true})
			f = f.restart(t)
			publish(volume.Outcome{Changed: true}) // written anew, to be sure, and nobody is blamed
			publish(volume.Outcome{})
		})
	})
}

// unlock leaves the file system writable, as a process that is killed in a rotation does.
func unlock(t *testing.T, target string) {
	t.Helper()
	fd, err := unix.Fspick(unix.AT_FDCWD, target, unix.FSPICK_CLOEXEC)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.FsconfigSetFlag(fd, "rw")
	}
	if err == nil {
		_ = unix.FsconfigSetFlag(fd, "noswap") // refused in a user namespace
		err = unix.FsconfigReconfigure(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A reader that keeps a file of a replaced set open is no reason to leave the file system writable: that set stays until the reader
// lets go, as far as there are not many of them.
func TestReplacedSetsThatAreOpen(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
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
			t.Errorf("%d sets when nobody reads any more", got)
		}
		if err := os.WriteFile(filepath.Join(dir, "evil"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("create: %v, want EROFS", err)
		}
	})
}

// without gives up capabilities on a thread of its own.
func without(t *testing.T, caps ...int) (run func(fn func())) {
	t.Helper()
	return func(fn func()) {
		done := make(chan error)
		onThread(func() {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			err := unix.Capget(&header, &data[0])
			for _, c := range caps {
				data[c/32].Effective &^= 1 << (c % 32)
			}
			if err == nil {
				err = unix.Capset(&header, &data[0])
			}
			if err == nil {
				fn()
			}
			done <- err
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A file whose mode keeps the driver itself from reading it is compared by what nobody can forge.
func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	ways(t, tmpfs.Options{}, func(t *testing.T, f fixture) {
		without(t, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH)(func() {
			next := content("a", "1")
			next.Files[0].Mode = 0o040
			publish := func(want volume.Outcome) {
				t.Helper()
				next.Fetched = next.Fetched.Add(time.Millisecond)
				if o, err := f.Publish(context.Background(), f.mount(), next); err != nil || o != want {
					t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
				}
			}
			publish(volume.Outcome{Changed: true})
			publish(volume.Outcome{})
			if err := aging.Writable(f.target, func(dir string) error {
				name := filepath.Join(dir, "..data", "a")
				return errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, []byte("2"), 0o600), os.Chmod(name, fs.FileMode(0o040)))
			}); err != nil {
				t.Error(err)
			}
			publish(volume.Outcome{Changed: true, Tampered: "the names, bytes, modes or owners of its files"})
			publish(volume.Outcome{})
			next.Files[0].Data = volume.NewSecret([]byte("2")) // of the same size
			publish(volume.Outcome{Changed: true})
			publish(volume.Outcome{})
		})
	})
}
