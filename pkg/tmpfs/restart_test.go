package tmpfs_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// New content is not reported as tampering, also after a restart.
func TestRotationIsNoTampering(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	f.publish(t, content("a", "1", "b/c", "2"))
	f.publish(t, content("a", "2", "c", "2"))
	restarted := f.restart(t)
	if state, err := restarted.Inspect(t.Context(), f.target); err != nil || state.Unverified || !state.Published {
		t.Errorf("after a restart: %+v, %v", state, err)
	}
	restarted.publish(t, content("a", "3", "b/d", "2"))
}

// restart returns the store of a new process.
func (f fixture) restart(t *testing.T) fixture {
	t.Helper()
	s, err := tmpfs.New(tmpfs.Options{KubeletRoot: f.root, Now: func() time.Time { return *f.now }})
	if err != nil {
		t.Fatal(err)
	}
	f.Store = s
	return f
}

// A process that is killed while the file system is writable leaves it so. The first call of the next process makes it read-only, and the
// set is due at once, because a container may have written into it.
func TestKilledWhileWritable(t *testing.T) {
	t.Parallel()
	for name, forged := range map[string]bool{"honest": false, "forged": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{})
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
				t.Error("it is no longer due, and was not compared")
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
	}
}

// A new process distinguishes a set that a container has changed from one with old content.
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
			f := newFixture(t, tmpfs.Options{})
			f.publish(t, content("a", "1"))
			writeBehind(t, f.target, func(dir string) { tt.change(t, dir) })
			restarted := f.restart(t)
			if _, err := restarted.Inspect(t.Context(), f.target); err != nil {
				t.Fatal(err)
			}
			o, err := restarted.Publish(t.Context(), f.mount(), content("a", "2"))
			if want := (volume.Outcome{Changed: true, Tampered: tt.want}); err != nil || o != want {
				t.Errorf("Publish = %+v, %v, want %+v", o, err, want)
			}
		})
	}
}

// What a set carries must stay as earlier versions have written it: after an upgrade, another form would make each volume of the node look
// changed by somebody else.
func TestFingerprintOfEarlierVersions(t *testing.T) {
	t.Parallel()
	if mountns.InUserNamespace() || os.Geteuid() != 0 {
		t.Skip("what was written is kept in an attribute that takes CAP_SYS_ADMIN of the machine")
	}
	f := newFixture(t, tmpfs.Options{})
	group := uint32(2000)
	if _, err := f.Publish(t.Context(), volume.Mount{Target: f.target, Group: &group}, content("a", "1", "b/\u00e9", "2")); err != nil {
		t.Fatal(err)
	}
	var digest [sha256.Size]byte
	n, err := unix.Getxattr(filepath.Join(f.target, "..data"), "trusted.keyvault-csi", digest[:])
	const want = "79126c206fb5092e3d8a01d22943773e24af3295fd09777aeb18b9b18d2768c2"
	if got := hex.EncodeToString(digest[:max(n, 0)]); err != nil || got != want {
		t.Errorf("the set carries %s, %v, want %s", got, err, want)
	}
}

// A new process cannot compare files that it may not read: it replaces the set, and reports no tampering.
func TestUnreadableFilesAfterARestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
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
		publish(volume.Outcome{Changed: true}) // replaced, because it cannot be compared
		publish(volume.Outcome{})
	})
}

// A file that the driver itself may not read is compared by its inode, size and ctime.
func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
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
}
