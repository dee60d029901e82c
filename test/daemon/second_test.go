package daemon_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestSecondDriver: each of two drivers with one kubelet counts its own volumes, also after a restart.
func TestSecondDriver(t *testing.T) {
	t.Parallel()
	first := node.New(t, node.Options{})
	second := node.New(t, node.Options{Flags: []string{"--driver-name=second.example", "--kubelet-root=" + first.Root}})
	second.Root = first.Root
	volumes := []struct {
		*node.Node
		name string
		size int
	}{{first, "first", 100_000}, {second, "second", 300_000}}
	for _, v := range volumes {
		v.Vault.SetSecret(v.name, strings.Repeat("x", v.size), devcloud.SecretOptions{})
		v.MustPublish(t, node.Volume(v.name, "objects", "- secret: "+v.name))
	}
	counted := func(when string) {
		t.Helper()
		for _, v := range volumes {
			if got := int(v.MustMetric(t, "keyvault_csi_volumes_bytes")); got < v.size || got > v.size+80_000 {
				t.Errorf("%s the driver of a volume of %d bytes counts %d bytes", when, v.size, got)
			}
		}
	}
	counted("at first")
	for _, v := range volumes {
		if _, err := v.StopDaemon(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := v.StartDaemon(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	counted("after a restart")
	for _, v := range volumes {
		v.MustUnpublish(t, node.Volume(v.name))
		if got := v.MustMetric(t, "keyvault_csi_volumes_bytes"); got != 0 {
			t.Errorf("%s has no volume and counts %.0f bytes", v.name, got)
		}
	}
}
