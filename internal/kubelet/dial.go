package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// startTimeout bounds the start of a driver. One that has ended is noticed at once.
const startTimeout = 5 * time.Minute

// ErrExited is returned by [Dial] for a driver that has ended before it answered.
var ErrExited = errors.New("the driver has ended")

// Dial connects to the CSI socket of a starting driver, and waits until it answers a Probe or has exited.
func Dial(ctx context.Context, socket string, exited <-chan struct{}) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		// The default first pause of a second is for networks.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond},
			// The default is the pause, which is too short on a busy machine.
			MinConnectTimeout: startTimeout,
		}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	go func() {
		select {
		case <-exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	if _, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true)); err != nil {
		_ = conn.Close()
		select {
		case <-exited:
			return nil, ErrExited
		default:
		}
		return nil, fmt.Errorf("the driver does not answer a Probe: %w", err)
	}
	return conn, nil
}
