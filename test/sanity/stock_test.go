package sanity_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestStock runs csi-sanity as its users do: the program as it is released, on the daemon's own socket, with a controller at
// --csi.controllerendpoint, which a node driver has not and without which csi-sanity counts its specs as failed.
// CSI_SANITY names the program; make sanity builds it.
func TestStock(t *testing.T) {
	program := os.Getenv("CSI_SANITY")
	if program == "" {
		program = filepath.Join(t.TempDir(), "csi-sanity")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity")
		if out, err := build.CombinedOutput(); err != nil {
			if _, missing := exec.LookPath("go"); missing != nil {
				t.Skip("needs the go command, or CSI_SANITY")
			}
			t.Fatalf("%v: %s", err, out)
		}
	}
	n, err := node.Start(t.Context(), node.Options{Flags: []string{"--allow-read-write-requests"}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})

	parameters := filepath.Join(t.TempDir(), "parameters.yaml")
	text, err := json.Marshal(volumeContext(t, n)) // which is YAML, too
	if err == nil {
		err = os.WriteFile(parameters, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), program, "--csi.endpoint=unix:"+n.Socket, "--csi.controllerendpoint="+serveFront(t, n),
		"--csi.mountdir="+filepath.Join(n.Root, "target"), "--csi.stagingdir="+filepath.Join(n.Root, "staging"),
		"--csi.testvolumeparameters="+parameters, "--ginkgo.no-color")
	command.Stdout = io.MultiWriter(os.Stdout, &out)
	command.Stderr = command.Stdout
	if err := command.Run(); err != nil || !strings.Contains(out.String(), "SUCCESS!") {
		t.Errorf("csi-sanity: %v", err)
	}
}
