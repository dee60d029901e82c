// Command sanity runs the released csi-sanity, the conformance tests of the CSI specification, with the daemon as a process. Arguments and
// exit code are csi-sanity's. `make sanity` calls it.
//
// It is a module of its own, so that csi-test and its requirements are not requirements of the product.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var code int
	var err error
	if mountns.Inside() {
		code, err = run(ctx, os.Stdout, os.Args[1:])
	} else {
		code, err = mountns.Rerun(context.WithoutCancel(ctx)) // which forwards signals and waits for the cleanup
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sanity:", err)
		code = 1
	}
	os.Exit(code) //nolint:gocritic // exitAfterDefer: stop has nothing left to stop
}

// run starts a node and runs csi-sanity with it. The exit code is csi-sanity's.
func run(ctx context.Context, out io.Writer, args []string) (code int, err error) {
	// csi-sanity publishes only writable volumes.
	n, err := node.Start(ctx, node.Options{Flags: []string{"--allow-read-write-requests"}})
	if err != nil {
		return 0, err
	}
	defer n.Close()
	program, err := csiSanity(ctx, n.Dir)
	if err != nil {
		return 0, err
	}
	parameters, err := volumeParameters(ctx, n)
	if err != nil {
		return 0, err
	}
	f := &front{identity: n.Identity, node: n.Driver, volumes: map[string]int64{}}
	controller := filepath.Join(n.Dir, "front.sock")
	stop, err := f.serve(ctx, controller)
	if err != nil {
		return 0, err
	}
	defer stop()

	common := append([]string{
		"--csi.testvolumeparameters=" + parameters,
		// csi-sanity creates and removes both folders; their parent must exist.
		"--csi.mountdir=" + filepath.Join(n.Root, "target"),
		"--csi.stagingdir=" + filepath.Join(n.Root, "staging"),
		"--ginkgo.no-color",
	}, args...)
	for _, part := range []struct {
		title string
		args  []string
	}{
		{
			"the daemon's socket, with a controller of the test's own beside it",
			[]string{"--csi.endpoint=unix:" + n.Socket, "--csi.controllerendpoint=unix:" + controller},
		},
		{
			"the two specs that need the controller announced by the node's own socket",
			[]string{"--csi.endpoint=unix:" + controller, "--ginkgo.focus=Node Service should (work|be idempotent)$"},
		},
	} {
		fmt.Fprintf(out, "csi-sanity: %s\n", part.title)
		command := exec.CommandContext(ctx, program, append(part.args, common...)...) //nolint:gosec // G204: the released program
		command.Stdout, command.Stderr = out, out
		err := command.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
			code = max(code, exit.ExitCode())
		} else if err != nil {
			return 0, err
		}
	}
	mounts, err := kubelet.Mounts(n.Dir)
	if err == nil && code == 0 && len(mounts) != 0 {
		err = fmt.Errorf("csi-sanity has unpublished all it published, and these mounts are left: %v", mounts)
	}
	return code, err
}

// csiSanity returns the path of the program that make has built, or builds it in a folder.
func csiSanity(ctx context.Context, folder string) (string, error) {
	if bin := os.Getenv("KEYVAULT_CSI_BIN"); bin != "" {
		return filepath.Join(bin, "csi-sanity"), nil
	}
	path := filepath.Join(folder, "csi-sanity")
	command := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity") //nolint:gosec // fixed
	if text, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build csi-sanity (or set KEYVAULT_CSI_BIN): %w: %s", err, text)
	}
	return path, nil
}

// volumeParameters writes csi-sanity's file of parameters, which become the context of each volume: the context of a pod's volume, with
// the tokens in it, as before Kubernetes 1.35.
func volumeParameters(ctx context.Context, n *node.Node) (path string, err error) {
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	request, err := n.Request(ctx, kubelet.Volume{
		Name: "sanity", Namespace: node.Namespace, ServiceAccount: node.ServiceAccount, TokenInContext: true,
		Attributes: map[string]string{"vault": node.VaultURL, "clientID": node.WorkloadID, "secrets": "db-password"},
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(request.GetVolumeContext()) // JSON is YAML too
	if err != nil {
		return "", err
	}
	path = filepath.Join(n.Dir, "parameters.yaml")
	return path, os.WriteFile(path, text, 0o600)
}
