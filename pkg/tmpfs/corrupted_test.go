package tmpfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// mountDead mounts a FUSE file system at path whose server is gone: every access answers ENOTCONN.
func mountDead(t *testing.T, path string) {
	t.Helper()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skipf("FUSE cannot be used here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, path)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
	err = unix.Mount("gone", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options)
	if err := errors.Join(err, device.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("stat answers %v, want ENOTCONN", err)
	}
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
