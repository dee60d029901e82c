package driver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// maxMessage bounds a request before it is read: the attributes of a volume (volume.MaxAttributeBytes), and as much for the Secret
	// of nodePublishSecretRef and the rest. gRPC's own limit of 4 MiB would let a hundred pods fill the memory of the driver.
	maxMessage = 2 * volume.MaxAttributeBytes
	// maxStreams bounds the calls of one connection. The kubelet makes a connection for each call.
	maxStreams = 256
	// streamWorkers serve calls one after the other, whichever connection they come from, on stacks that have grown
	// already; calls beyond them have goroutines of their own, whose stacks grow anew each time. With the windows below
	// that is a twelfth of a publish.
	streamWorkers = 4
	// window is HTTP/2's own default. Given, it keeps gRPC from sending a PING with each message, by which it would find
	// out how much a network can hold: a unix socket has no way that could be filled.
	window = 64 << 10
	// connectTimeout is for the HTTP/2 handshake of a connection.
	connectTimeout = 10 * time.Second
	// probeTimeout is how long the driver's own CSI socket may take to answer a Probe.
	probeTimeout = 5 * time.Second
	// cancelGrace is how long calls may take to end after their contexts have been canceled.
	cancelGrace = 3 * time.Second
)

// Run serves until the context ends, then stops gracefully and gives nil; or until a server fails, and gives that error.
// Its logger is that of the context (klog.FromContext).
func (d *Driver) Run(ctx context.Context) error {
	l, err := d.listen(ctx)
	if err != nil {
		return err
	}
	return d.serve(ctx, l)
}

// listeners are open before the first server starts, so that a bad address is an error at once.
type listeners struct {
	csi  net.Listener
	http net.Listener // nil when off
}

func (d *Driver) listen(ctx context.Context) (l listeners, err error) {
	if l.csi, err = listenUnix(ctx, d.socket); err != nil {
		return listeners{}, err
	}
	if d.config.HTTPAddress == "" {
		return l, nil
	}
	var config net.ListenConfig
	if l.http, err = config.Listen(ctx, "tcp", d.config.HTTPAddress); err != nil {
		_ = l.csi.Close()
		return listeners{}, fmt.Errorf("listening for HTTP: %w", err)
	}
	return l, nil
}

// serve runs the servers until the context ends or one of them fails, and then stops them in the order of who depends
// on whom: the kubelet learns that the driver goes before the calls end, and health is told to the last.
func (d *Driver) serve(ctx context.Context, l listeners) error {
	logger := klog.FromContext(ctx)
	failed := make(chan error, 3)

	rpc := d.csiServer(logger)
	go func() { failed <- describeFailure("CSI server", rpc.Serve(l.csi)) }()
	logger.Info("serving CSI", keyName, d.config.Name, keyVersion, d.config.Version,
		keyNode, d.config.NodeID, keyEndpoint, d.config.Endpoint)

	web := d.httpServer()
	if l.http != nil {
		go func() { failed <- describeFailure("HTTP server", web.Serve(&crowd{Listener: l.http})) }()
		logger.Info("serving health and metrics", keyAddress, l.http.Addr().String())
	}

	registrationCtx, withdraw := context.WithCancel(ctx)
	defer withdraw()
	withdrawn := make(chan struct{})
	go func() {
		defer close(withdrawn)
		if err := d.register(registrationCtx); err != nil {
			failed <- err
		}
	}()

	var err error
	select {
	case <-ctx.Done():
		logger.Info("stopping")
	case err = <-failed:
		logger.Error(err, "stopping")
	}
	withdraw()
	<-withdrawn
	drain(rpc, d.grace)
	shutdown(web) //nolint:contextcheck // ctx is done; the shutdown has a time of its own
	return err
}

func describeFailure(server string, err error) error {
	return fmt.Errorf("the %s ended: %w", server, err)
}

// csiServer needs no keepalive: the end of a process at a unix socket is seen at once.
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

// drain stops a server: at once for new calls, after the grace for those that run; then their contexts are canceled.
// A call that does not even heed that is left behind: the process is about to end, and the store is made to be
// interrupted anywhere.
func drain(server *grpc.Server, grace time.Duration) {
	drained := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
		return
	case <-time.After(grace):
	}
	go server.Stop()
	select {
	case <-drained:
	case <-time.After(cancelGrace):
	}
}

func shutdown(web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if web.Shutdown(ctx) != nil {
		_ = web.Close()
	}
}

// probe asks the driver's own CSI socket whether it answers, over a new connection as the kubelet does: a socket
// file that somebody has removed fails here too.
func (d *Driver) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()

	conn, err := grpc.NewClient("unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("probing %s: %w", d.socket, err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}); err != nil {
		return fmt.Errorf("probing %s: %w", d.socket, err)
	}
	return nil
}
