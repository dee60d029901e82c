package tmpfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The root of a container may take a delegation of a folder, also where it cannot write. Then every change in the folder waits for it. The
// refresh of this volume ends soon, with an error that says so, so that other volumes do not wait long for what it holds.
func TestDelegatedFolder(t *testing.T) {
	t.Parallel()
	later := content("a", "1", "b/c", "2")
	later.Fetched = later.Fetched.Add(time.Second)
	for name, tt := range map[string]struct {
		folder string
		next   volume.Content
		failed bool
	}{
		"the root":                 {".", content("a", "2"), true},
		"the set, another time":    {"..data", later, true},
		"the set, another content": {"..data", content("a", "2"), false}, // only its removal has to wait
		"a folder of the set":      {"..data/b", content("a", "2"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{})
			f.publish(t, content("a", "1", "b/c", "2"))
			release := delegate(t, filepath.Join(f.target, tt.folder))
			want := ""
			if tt.failed {
				want = fmt.Sprintf("rotate the volume at %q: a process has a delegation of a folder or a file of it (F_SETDELEG), "+
					"for which every change has to wait; delete the pod", f.target)
			}
			for range 2 {
				began := time.Now()
				o, err := f.Publish(t.Context(), f.mount(), tt.next)
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("Publish took %s", took)
				}
				if o.Writable != "" || o.Tampered != "" {
					t.Errorf("Publish = %+v", o)
				}
				if tt.failed {
					wantError(t, err, nil, want)
				} else if err != nil {
					t.Error(err)
				}
				wantReadOnly(t, f.target, true)
			}
			release()
			f.publish(t, tt.next)
			if entries, err := os.ReadDir(f.target); err != nil || len(entries) != 2+len(tt.next.Files) {
				t.Errorf("the volume holds %v, %v", entries, err)
			}
		})
	}
}

// A system call that waits for another process ends, on every kernel; one that does not wait is left alone.
func TestImpatiently(t *testing.T) {
	t.Parallel()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(pipe[0]), unix.Close(pipe[1]) }()
	read := func() error {
		_, err := unix.Read(pipe[0], make([]byte, 1))
		return err
	}
	for range 2 {
		err := tmpfs.Impatiently(read)
		if err == nil || !strings.HasPrefix(err.Error(), "a process has a delegation ") {
			t.Errorf("a read that waits: %v", err)
		}
	}
	if err := tmpfs.Impatiently(func() error {
		<-time.After(1100 * time.Millisecond)
		if _, err := unix.Write(pipe[1], []byte("x")); err != nil {
			return err
		}
		return read()
	}); err != nil {
		t.Errorf("a read that does not wait: %v", err)
	}
}

// delegate takes a delegation of the folder until release is called.
func delegate(t *testing.T, folder string) (release func()) {
	t.Helper()
	held, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	release = func() { _ = held.Close() }
	t.Cleanup(release)
	delegation := struct {
		flags     uint32
		kind, pad uint16
	}{kind: unix.F_RDLCK}
	switch _, _, err := unix.Syscall(unix.SYS_FCNTL, held.Fd(), unix.F_SETDELEG, uintptr(unsafe.Pointer(&delegation))); err {
	case 0:
	case unix.EINVAL:
		t.Skip("this kernel has no delegations of folders (they are of Linux 6.19)")
	default:
		t.Fatal(err)
	}
	return release
}
