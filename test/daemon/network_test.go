package daemon_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// metadataOwner is locked by the node that uses the address of the metadata service.
var metadataOwner sync.Mutex

// startWithMetadata starts a node whose cloud answers at the address of the metadata service.
func startWithMetadata(t *testing.T, o node.Options) *node.Node {
	t.Helper()
	if why := node.NoNetwork(); why != "" {
		t.Skip("the address of the metadata service cannot be had: ", why)
	}
	metadataOwner.Lock()
	t.Cleanup(metadataOwner.Unlock)
	o.Cloud.IMDSListen = node.MetadataAddress + ":80"
	n := node.New(t, o)
	return n
}

// A node waits for an address that another process is about to give back, and says what is wrong with one that it never gets.
func TestAddressOfTheCloud(t *testing.T) {
	t.Parallel()
	const address = "127.0.0.9:80"
	if why := node.NoNetwork(); why != "" {
		t.Skip("port 80 cannot be had: ", why)
	}
	var config net.ListenConfig
	holder, err := config.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = holder.Close() })
	n := node.New(t, node.Options{Cloud: devcloud.Options{IMDSListen: address}})
	if want := "http://" + address; n.Cloud.IMDSURL() != want {
		t.Errorf("the cloud answers at %s, want %s", n.Cloud.IMDSURL(), want)
	}
	_, err = node.Start(t.Context(), node.Options{Cloud: devcloud.Options{IMDSListen: "192.0.2.1:80"}})
	if want := "listen tcp 192.0.2.1:80: bind: cannot assign requested address"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// systemAssigned adds a system-assigned identity of the node.
func systemAssigned(t *testing.T, n *node.Node, tenant, clientID string) {
	t.Helper()
	if err := n.Cloud.AddIdentity(devcloud.Identity{Tenant: tenant, ClientID: clientID, Managed: true, SystemAssigned: true}); err != nil {
		t.Fatal(err)
	}
}
