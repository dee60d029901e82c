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

// DaemonBinary gives the daemon that was built beforehand, or builds it once for each run of a test binary.
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
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/keyvault-csi/keyvault-csi").Output()
	if err != nil {
		return "", fmt.Errorf("find the driver's module (or set %s): %w", binFolder, err)
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("keyvault-csi-driver-%d", os.Getpid()))
	command := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-driver") //nolint:gosec // fixed
	command.Dir = strings.TrimSpace(string(module))
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon (or set %s): %w: %s", binFolder, err, strings.TrimSpace(string(out)))
	}
	b.path = path
	return path, nil
}
