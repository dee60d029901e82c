package daemon_test

import (
	"sync"
	"testing"

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

// systemAssigned adds a system-assigned identity of the node.
func systemAssigned(t *testing.T, n *node.Node, tenant, clientID string) {
	t.Helper()
	if err := n.Cloud.AddIdentity(devcloud.Identity{Tenant: tenant, ClientID: clientID, Managed: true, SystemAssigned: true}); err != nil {
		t.Fatal(err)
	}
}
