package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The daemon asks the node's metadata service at the one address that it has in Azure, in clear text and past every
// proxy. So that a test can answer there, the tests of this package run in a network of their own, which has nothing
// but a loopback interface, with that address on it.

// metadataAddress is that of Azure's instance metadata service.
const metadataAddress = "169.254.169.254"

// ownNetwork is the environment variable by which the tests know that they are inside; else it holds the reason why not.
const ownNetwork = "KEYVAULT_CSI_TEST_NETWORK"

const inside = "inside"

// networked runs the tests of m in a network of their own, or where the machine forbids that in the one that is there.
type networked struct{ m *testing.M }

func (n networked) Run() int {
	if os.Getenv(ownNetwork) == "" {
		err := enterNetwork() // does not return when all is well
		if os.Getenv("CI") != "" {
			fmt.Fprintln(os.Stderr, "a network for the tests:", err)
			return 1
		}
		_ = os.Setenv(ownNetwork, err.Error())
	}
	return n.m.Run()
}

// enterNetwork makes the network for this thread and starts the program anew from it: the process that execve leaves
// is that of the calling thread.
func enterNetwork() error {
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := loopback("lo", [4]byte{127, 0, 0, 1}); err != nil {
		return err
	}
	if err := loopback("lo:0", [4]byte{169, 254, 169, 254}); err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), ownNetwork+"="+inside))
}

// loopback gives the loopback interface an address and switches it on.
func loopback(name string, address [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := request.SetInet4Addr(address[:]); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}

// metadataOwner is who has the one address; there can be but one node with it at a time.
var metadataOwner sync.Mutex

// startWithMetadata starts a node whose cloud answers at the address of the metadata service.
func startWithMetadata(t *testing.T, o node.Options) *node.Node {
	t.Helper()
	if why := os.Getenv(ownNetwork); why != inside {
		t.Skip("the address of the metadata service cannot be had: ", why)
	}
	metadataOwner.Lock()
	t.Cleanup(metadataOwner.Unlock)
	o.Cloud.IMDSListen = metadataAddress + ":80"
	n := start(t, o)
	return n
}

// systemAssigned gives the node's VM an identity of its own in a tenant.
func systemAssigned(t *testing.T, n *node.Node, tenant, clientID string) {
	t.Helper()
	if err := n.Cloud.AddIdentity(devcloud.Identity{Tenant: tenant, ClientID: clientID, Managed: true, SystemAssigned: true}); err != nil {
		t.Fatal(err)
	}
}
