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

// DaemonBinary is the path of the daemon, see [Binary].
func DaemonBinary(ctx context.Context) (string, error) { return Binary(ctx, "keyvault-csi-driver") }

// Binary is the path of a program of cmd in the folder that the environment variable KEYVAULT_CSI_BIN names. Without the variable it is
// built as `make build` does, once for each process, to bin/test in the driver's module.
func Binary(ctx context.Context, name string) (string, error) {
	if folder := os.Getenv(binFolder); folder != "" {
		return filepath.Join(folder, name), nil
	}
	return built.get(ctx, name)
}

type build struct {
	sync.Mutex
	paths map[string]string // by the name of the program
}

var built = build{paths: map[string]string{}}

func (b *build) get(ctx context.Context, name string) (string, error) {
	b.Lock()
	defer b.Unlock()
	if path, ok := b.paths[name]; ok {
		return path, nil
	}
	// From the driver's own module: that of the test, such as test/sanity, does not list all that the driver requires.
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/keyvault-csi/keyvault-csi").Output()
	if err != nil {
		return "", fmt.Errorf("find the driver's module (or set %s): %w", binFolder, err)
	}
	module := strings.TrimSpace(string(out))
	path := filepath.Join(module, "bin", "test", name)
	// Test binaries that run at the same time may all build it. None of them may start half of one.
	own := fmt.Sprintf("%s-%d", path, os.Getpid())
	command := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-trimpath", "-ldflags", "-s -w", "-o", own, ".") //nolint:gosec // fixed
	// Some programs are modules of their own.
	command.Dir = filepath.Join(module, "cmd", name)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s (or set %s): %w: %s", name, binFolder, err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(own, path); err != nil {
		return "", err
	}
	b.paths[name] = path
	return path, nil
}
