package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
)

// provider asks the provider at a socket of the node for its version, as the Secrets Store CSI Driver does.
func provider(ctx context.Context, socket string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+filepath.Join(host, socket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	v, err := v1alpha1.NewCSIDriverProviderClient(conn).Version(ctx, &v1alpha1.VersionRequest{Version: "v1alpha1"})
	return strings.Join([]string{v.GetVersion(), v.GetRuntimeName(), v.GetRuntimeVersion()}, " "), err
}
