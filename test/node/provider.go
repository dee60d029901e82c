package node

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
)

// ProviderSocket is the socket of a node with [Options.Provider].
func (n *Node) ProviderSocket() string { return filepath.Join(n.Dir, "azure.sock") }

// Provider connects to the provider's socket of the daemon, as the Secrets Store CSI Driver does.
func (n *Node) Provider(t testing.TB, options ...grpc.DialOption) v1alpha1.CSIDriverProviderClient {
	t.Helper()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("unix://"+n.ProviderSocket(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return v1alpha1.NewCSIDriverProviderClient(conn)
}

// Class is the volume of a pod with a SecretProviderClass: its parameters, for the node's workload identity and its vault. Pairs are
// parameters and values; an empty value removes a parameter.
func Class(name string, pairs ...string) kubelet.Volume {
	return With(kubelet.Volume{
		Name: name, Namespace: Namespace, ServiceAccount: ServiceAccount, TokenInContext: true,
		Attributes: map[string]string{"keyvaultName": VaultName, "tenantID": Tenant, "clientID": WorkloadID},
	}, pairs...)
}

// MountRequest is the call of the Secrets Store CSI Driver for a volume with these parameters. Without current it is the first call;
// with the versions that the volume has it is a poll.
func (n *Node) MountRequest(ctx context.Context, class kubelet.Volume, current ...*v1alpha1.ObjectVersion) (*v1alpha1.MountRequest, error) {
	publish, err := n.Request(ctx, class)
	if err != nil {
		return nil, err
	}
	attributes, err := json.Marshal(publish.GetVolumeContext())
	if err != nil {
		return nil, err
	}
	secrets, err := json.Marshal(publish.GetSecrets())
	if err != nil {
		return nil, err
	}
	return &v1alpha1.MountRequest{
		Attributes: string(attributes), Secrets: string(secrets), TargetPath: publish.GetTargetPath(), Permission: "420",
		CurrentObjectVersion: current,
	}, nil
}

// MustMountRequest ends the test when there is no request.
func (n *Node) MustMountRequest(t testing.TB, class kubelet.Volume, current ...*v1alpha1.ObjectVersion) *v1alpha1.MountRequest {
	t.Helper()
	request, err := n.MountRequest(t.Context(), class, current...)
	if err != nil {
		t.Fatal(err)
	}
	return request
}
