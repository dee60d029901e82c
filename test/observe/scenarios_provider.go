package observe

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The Secrets Store CSI Driver mounts a class whose secret the vault does not have, again and again.
func tickFailingProvider(ctx context.Context, s *Fixture) error {
	class := node.Class(s.next("class"), "objects", "array:\n  - |\n    objectName: missing\n    objectType: secret\n")
	request, err := s.MountRequest(ctx, class)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+s.ProviderSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = v1alpha1.NewCSIDriverProviderClient(conn).Mount(ctx, request)
	if status.Code(err) != codes.NotFound {
		return fmt.Errorf("the call for a missing secret answers %w, want NotFound", err)
	}
	return nil
}
