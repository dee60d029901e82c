package daemon_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// Files that were changed in a volume while no daemon ran are repaired by the next daemon, and reported in the log and the metrics, without
// their content. A value that has changed in the vault meanwhile is not reported.
func TestTamperedWhileNoDaemonRuns(t *testing.T) {
	t.Parallel()
	const forged, name = "a-forged-value", "a-name-that-may-be-a-secret"
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	rotated, tampered := workload("secrets", "db-password"), workload("secrets", "db-password")
	tampered.Name = "tampered"
	n.MustPublish(t, rotated)
	n.MustPublish(t, tampered)
	if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.Vault.SetSecret("db-password", "second", devcloud.SecretOptions{})
	err := aging.Writable(n.Target(tampered), func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "secrets", "db-password"), []byte(forged), 0o600),
			os.WriteFile(filepath.Join(dir, "..data", "secrets", name), nil, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Age(t, rotated, 3*time.Minute)
	n.Age(t, tampered, 3*time.Minute)
	n.MustPublish(t, rotated)
	n.MustPublish(t, tampered)
	for _, v := range []string{n.Target(rotated), n.Target(tampered)} {
		if got := node.ReadFile(t, filepath.Join(v, "secrets/db-password")); got != "second" {
			t.Errorf("%s holds %q", v, got)
		}
	}
	_, page, err := n.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	want := "keyvault_csi_tampered_volumes_total 1\n"
	if mountns.InUserNamespace() {
		want = "keyvault_csi_tampered_volumes_total 0\n" // the mark of a set needs CAP_SYS_ADMIN of the machine
	}
	if !strings.Contains(page, want) {
		t.Errorf("the metrics lack %q", want)
	}
	for where, text := range map[string]string{"log": n.Output(), "metrics": page} {
		if strings.Contains(text, forged) || strings.Contains(text, name) {
			t.Errorf("the %s has the content of a container", where)
		}
	}
	if blamed := strings.Count(n.Output(), "volume was changed by somebody else"); blamed != 1 && !mountns.InUserNamespace() {
		t.Errorf("the log reports %d changes, want 1", blamed)
	}
}
