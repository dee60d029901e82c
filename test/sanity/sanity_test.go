// Package sanity_test runs csi-sanity, the conformance tests of the CSI specification, against the daemon as a process.
//
// It is a module of its own, so that ginkgo and its company stay out of the product's requirements.
package sanity_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// minPassed is how many specs must really have run: a suite that skips is green, too.
const minPassed = 26

func TestSanity(t *testing.T) {
	n, err := node.Start(t.Context(), node.Options{Flags: []string{"--allow-read-write-requests"}}) // csi-sanity asks for no other
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})

	config := sanity.NewTestConfig()
	config.Address = serveFront(t, n)
	// csi-sanity makes and removes both folders itself, below a parent that exists.
	config.TargetPath = filepath.Join(n.Root, "target")
	config.StagingPath = filepath.Join(n.Root, "staging")
	config.TestVolumeParameters = volumeContext(t, n)

	var report types.Report
	ginkgo.ReportAfterSuite("count", func(r ginkgo.Report) { report = r })
	tests := sanity.GinkgoTest(&config)
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "csi-sanity")
	tests.Finalize()

	passed := report.SpecReports.WithLeafNodeType(types.NodeTypeIt).CountWithState(types.SpecStatePassed)
	skipped := report.SpecReports.WithLeafNodeType(types.NodeTypeIt).CountWithState(types.SpecStateSkipped)
	fmt.Printf("csi-sanity: %d specs passed, %d skipped (capabilities that a node driver of inline volumes does not have)\n", passed, skipped)
	if passed < minPassed {
		t.Errorf("%d specs passed, want at least %d", passed, minPassed)
	}
	mounts, err := kubelet.Mounts(n.Dir)
	if err != nil || len(mounts) != 0 {
		t.Errorf("csi-sanity left mounts behind: %v, %v", mounts, err)
	}
}

// volumeContext is that of a pod's volume, with the tokens as before Kubernetes 1.35: csi-sanity has no kubelet.
func volumeContext(t *testing.T, n *node.Node) map[string]string {
	t.Helper()
	request, err := n.Request(t.Context(), kubelet.Volume{
		Name: "sanity", Namespace: node.Namespace, ServiceAccount: node.ServiceAccount, TokenInContext: true,
		Attributes: map[string]string{"vault": node.VaultURL, "clientID": node.WorkloadID, "secrets": "db-password"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return maps.Clone(request.GetVolumeContext())
}

// serveFront gives the address of a front before the daemon.
func serveFront(t *testing.T, n *node.Node) string {
	t.Helper()
	socket := filepath.Join(n.Dir, "front.sock")
	var config net.ListenConfig
	listener, err := config.Listen(context.WithoutCancel(t.Context()), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	f := &front{identity: n.Identity, node: n.Driver, volumes: map[string]int64{}}
	csi.RegisterIdentityServer(server, f)
	csi.RegisterControllerServer(server, f)
	csi.RegisterNodeServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return "unix:" + socket
}
