package mountns_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

func TestMountsHereAreNotSeenOutside(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4096"); err != nil {
		t.Fatalf("mount inside the namespace: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !mounted(t, "/proc/self/mountinfo", resolved) {
		t.Error("the mount is not in this process's own mount table")
	}
	// The parent is the first run of this binary, outside the namespace.
	if mounted(t, fmt.Sprintf("/proc/%d/mountinfo", os.Getppid()), resolved) {
		t.Error("the mount is seen outside the namespace")
	}
}

func mounted(t *testing.T, table, path string) bool {
	t.Helper()
	f, err := os.Open(table)
	if err != nil {
		t.Skipf("the mount table of the parent cannot be read from a user namespace: %v", err)
	}
	defer func() { _ = f.Close() }()
	found, err := mountinfo.GetMountsFromReader(f, mountinfo.SingleEntryFilter(path))
	if err != nil {
		t.Fatal(err)
	}
	return len(found) > 0
}

func TestInsideIsRoot(t *testing.T) {
	if !mountns.Inside() {
		t.Fatal("Inside() = false in a run of Main")
	}
	if os.Geteuid() != 0 {
		t.Errorf("euid %d inside, want 0", os.Geteuid())
	}
}
