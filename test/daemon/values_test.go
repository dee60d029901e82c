package daemon_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestValuesThatNoLongerFit: after a rotation to a value that the files cannot hold, the pod keeps the files that it has, all from before,
// and the health of the volume says why, without the value.
func TestValuesThatNoLongerFit(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"hunter2":                  "its value is not JSON",
		`{"password2": "hunter2"}`: "the value has no member",
		`{"password": "hunter'2"}`: "it has a single quote",
		`{"password": ""}`:         "it is empty",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			n := node.New(t, node.Options{})
			n.Vault.SetSecret("db", `{"password": "first"}`, devcloud.SecretOptions{})
			n.Vault.SetSecret("app-url", "first", devcloud.SecretOptions{})
			v := workload("objects", "- {env: a.env, from: [{name: PASSWORD, secret: db, field: /password}, {secrets: {prefix: app-}}]}\n"+
				"- {secret: app-url, path: url}")
			n.MustPublish(t, v)
			holds := func(value string) {
				t.Helper()
				for file, want := range map[string]string{"a.env": "PASSWORD='" + value + "'\nAPP_URL='" + value + "'\n", "url": value} {
					if got := node.ReadFile(t, filepath.Join(n.Target(v), file)); got != want {
						t.Errorf("%s is %q, want %q", file, got, want)
					}
				}
			}
			holds("first")
			n.Vault.SetSecret("app-url", "second", devcloud.SecretOptions{})
			n.Vault.SetSecret("db", value, devcloud.SecretOptions{})
			if refreshed(t, n, v) {
				t.Error("the set is another one")
			}
			holds("first")
			health, err := n.Driver.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: v.ID(), VolumePublishPath: n.Target(v)})
			if got := fmt.Sprint(health, err); !strings.Contains(got, "RefreshFailed") || !strings.Contains(got, want) || strings.Contains(got, "hunter") {
				t.Errorf("the health is %s, want %q", got, want)
			}

			n.Vault.SetSecret("db", `{"password": "second"}`, devcloud.SecretOptions{})
			if _, err := n.StopDaemon(syscall.SIGKILL); err != nil { // and its cache, which has the value for an interval
				t.Fatal(err)
			}
			if err := n.StartDaemon(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !refreshed(t, n, v) {
				t.Error("a good value does not change the set")
			}
			holds("second")
		})
	}
}
