package driver

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// maxMessage bounds a request before it is read: volume.MaxAttributeBytes for the attributes, and as much for the Secret
	// and the rest. With gRPC's default of 4 MiB a hundred pods could fill the memory of the driver.
	maxMessage = 2 * volume.MaxAttributeBytes
	maxStreams = 256 // of one connection; the kubelet makes a connection for each call
	// Four stream workers serve calls on stacks that have grown already. With a window of its own, HTTP/2's default, gRPC
	// does not measure the bandwidth by a PING with each message. Both save a twelfth of a publish with nothing to do.
	streamWorkers, window = 4, 64 << 10

	connectTimeout = 10 * time.Second // for the HTTP/2 handshake
	probeTimeout   = 5 * time.Second
	// After Run was told to stop, calls may go on for grace, and then they are canceled and may take cancelGrace to end. The
	// kubelet gives a pod 30 seconds.
	grace, cancelGrace = 20 * time.Second, 3 * time.Second
)

// Run serves until the context ends, and then stops gracefully and returns nil. If a server fails it returns that error. It
// logs to klog.FromContext(ctx).
func (d *Driver) Run(ctx context.Context) error {
	rpc, web, err := d.listen(ctx)
	if err != nil {
		return err
	}
	return d.serve(ctx, rpc, web)
}

// listen opens all addresses before the first server starts, so that a bad one is an error at once. web is nil if HTTP is
// off.
func (d *Driver) listen(ctx context.Context) (rpc, web net.Listener, err error) {
	if rpc, err = listenUnix(ctx, d.socket); err != nil || d.config.HTTPAddress == "" {
		return rpc, nil, err
	}
	var config net.ListenConfig
	if web, err = config.Listen(ctx, "tcp", d.config.HTTPAddress); err != nil {
		_ = rpc.Close()
		return nil, nil, fmt.Errorf("listening for HTTP: %w", err)
	}
	return rpc, web, nil
}

// serve runs the servers until the context ends or one of them fails. It first withdraws the registration, then ends the
// calls, and health last.
func (d *Driver) serve(ctx context.Context, rpc, web net.Listener) error {
	logger := klog.FromContext(ctx)
	failed := make(chan error, 3)

	csiServer := d.csiServer(logger)
	go func() { failed <- fmt.Errorf("the CSI server ended: %w", csiServer.Serve(rpc)) }()
	logger.Info("serving CSI", "name", d.config.Name, "version", d.config.Version, "node", d.config.NodeID, "endpoint", d.config.Endpoint)

	httpServer := d.httpServer()
	if web != nil {
		go func() { failed <- fmt.Errorf("the HTTP server ended: %w", httpServer.Serve(web)) }()
		logger.Info("serving health and metrics", "address", web.Addr().String())
	}

	registrationCtx, withdraw := context.WithCancel(ctx)
	defer withdraw()
	var registration sync.WaitGroup
	registration.Go(func() {
		if err := d.register(registrationCtx); err != nil {
			failed <- err
		}
	})

	var err error
	select {
	case <-ctx.Done():
		logger.Info("stopping")
	case err = <-failed:
		logger.Error(err, "stopping")
	}
	withdraw()
	registration.Wait()
	drain(csiServer, d.grace)
	_ = httpServer.Close()
	return err
}

// csiServer needs no keepalive: a unix socket reports the end of the other process at once.
func (d *Driver) csiServer(logger klog.Logger) *grpc.Server {
	server := grpc.NewServer(
		grpc.UnaryInterceptor(d.intercept(logger)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
	)
	csi.RegisterIdentityServer(server, &identityServer{name: d.config.Name, version: d.config.Version})
	csi.RegisterNodeServer(server, d.node)
	return server
}

// drain stops a server: new calls are refused at once, those that run are canceled after the grace. A call that ignores that
// is left behind: the process ends, and the store can be interrupted anywhere.
func drain(server *grpc.Server, grace time.Duration) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer time.AfterFunc(grace, server.Stop).Stop()
		server.GracefulStop()
	}()
	select {
	case <-drained:
	case <-time.After(grace + cancelGrace):
	}
}

// probe asks the driver's own CSI socket over a new connection, as the kubelet does. So it also fails if the socket file was
// removed.
func (d *Driver) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()

	conn, err := grpc.NewClient("unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		defer func() { _ = conn.Close() }()
		_, err = csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	}
	if err != nil {
		return fmt.Errorf("probing %s: %w", d.socket, err)
	}
	return nil
}
