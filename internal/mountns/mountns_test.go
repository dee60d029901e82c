package mountns_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
	here, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(here), resolved) {
		t.Error("the mount is not in this process's own mount table")
	}
	// The parent is the first run of this binary, outside the namespace.
	outside, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", os.Getppid()))
	if err != nil {
		t.Skipf("the parent's mount table cannot be read from a user namespace: %v", err)
	}
	if strings.Contains(string(outside), resolved) {
		t.Error("the mount is seen outside the namespace")
	}
}

func TestInsideIsRoot(t *testing.T) {
	if !mountns.Inside() {
		t.Fatal("Inside() = false in a run of Main")
	}
	if os.Geteuid() != 0 {
		t.Errorf("euid %d inside, want 0", os.Geteuid())
	}
}
