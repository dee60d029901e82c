package tmpfs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// mountDead mounts a FUSE file system at path whose server is gone: every access answers ENOTCONN. The server has answered FUSE_INIT, because
// Linux 7.3 answers ECONNREFUSED if it ends before that.
func mountDead(t *testing.T, path string) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skipf("FUSE cannot be used here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, path)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device)
	err = unix.Mount("gone", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options)
	if err == nil {
		err = answerInit(device)
	}
	if err := errors.Join(err, unix.Close(device)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("stat answers %v, want ENOTCONN", err)
	}
}

// answerInit answers the first request of a FUSE connection: struct fuse_in_header, fuse_out_header and fuse_init_out of linux/fuse.h.
func answerInit(device int) error {
	request := make([]byte, 8<<10)
	if _, err := unix.Read(device, request); err != nil {
		return fmt.Errorf("read FUSE_INIT: %w", err)
	}
	const size = 16 + 64
	answer := binary.NativeEndian.AppendUint32(nil, size)
	answer = binary.NativeEndian.AppendUint32(answer, 0)  // error
	answer = append(answer, request[8:16]...)             // unique
	answer = binary.NativeEndian.AppendUint32(answer, 7)  // major
	answer = binary.NativeEndian.AppendUint32(answer, 31) // minor
	answer = append(answer, make([]byte, size-len(answer))...)
	if _, err := unix.Write(device, answer); err != nil {
		return fmt.Errorf("answer FUSE_INIT: %w", err)
	}
	return nil
}

// A mount at the target whose server is gone is a foreign mount.
func TestCorruptedMount(t *testing.T) {
	t.Parallel()
	f := newFixture(t, tmpfs.Options{})
	mountDead(t, f.target)
	if state, err := f.Inspect(t.Context(), f.target); err != nil || state.Published {
		t.Errorf("Inspect = %+v, %v", state, err)
	}
	if _, err := f.Usage(f.target); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("Usage: %v, want volume.ErrNotFound", err)
	}
	_, err := f.Publish(t.Context(), f.mount(), content("a", "1"))
	wantError(t, err, nil, fmt.Sprintf("target path %q holds a file system of type fuse from \"gone\" that no longer answers "+
		"(transport endpoint is not connected), which this driver has not mounted; delete the pod or unmount it", f.target))
	if got := mounts(t, f.target); len(got) != 1 {
		t.Errorf("Publish has left the mounts %v", got)
	}
	if err := f.Unpublish(f.target); err != nil {
		t.Errorf("Unpublish: %v", err)
	}
	if exists(f.target) {
		t.Error("Unpublish has left the target")
	}
	if !f.publish(t, content("a", "1")) {
		t.Error("the target cannot be used again")
	}
}
