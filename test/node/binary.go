package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// binFolder is the environment variable that names a folder with the built programs.
const binFolder = "KEYVAULT_CSI_BIN"

// DaemonBinary is the path of the daemon in the folder that the environment variable KEYVAULT_CSI_BIN names. Without the variable it
// is built, once for each process, to bin/test in the driver's module.
func DaemonBinary(ctx context.Context) (string, error) {
	if folder := os.Getenv(binFolder); folder != "" {
		return filepath.Join(folder, "keyvault-csi-driver"), nil
	}
	return built.get(ctx)
}

type build struct {
	sync.Mutex
	path string
}

var built build

func (b *build) get(ctx context.Context) (string, error) {
	b.Lock()
	defer b.Unlock()
	if b.path != "" {
		return b.path, nil
	}
	// From the driver's own module: that of the test, such as test/sanity, does not list all that the driver requires.
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/keyvault-csi/keyvault-csi").Output()
	if err != nil {
		return "", fmt.Errorf("find the driver's module (or set %s): %w", binFolder, err)
	}
	module := strings.TrimSpace(string(out))
	path := filepath.Join(module, "bin", "test", "keyvault-csi-driver")
	// Test binaries that run at the same time may all build it. None of them may start half of one.
	own := fmt.Sprintf("%s-%d", path, os.Getpid())
	command := exec.CommandContext(ctx, "go", "build", "-o", own, "./cmd/keyvault-csi-driver") //nolint:gosec // fixed
	command.Dir = module
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon (or set %s): %w: %s", binFolder, err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(own, path); err != nil {
		return "", err
	}
	b.path = path
	return path, nil
}
