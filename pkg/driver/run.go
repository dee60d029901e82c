package driver

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// maxMessage bounds a request before it is read: volume.MaxAttributeBytes for the attributes, and as much for the Secret
	// and the rest. With gRPC's default of 4 MiB a hundred pods could fill the memory of the driver.
	maxMessage = 2 * volume.MaxAttributeBytes
	// maxStreams is for one connection. The kubelet makes a connection for each call. The client of a service beside CSI has one for
	// all calls: those of a namespace that hang must leave room for others, but 1,000 calls of 250 KB at once take 330 MB.
	maxStreams, maxServiceStreams = 256, 1024
	// Four stream workers serve calls on stacks that have grown already. With a window of its own, HTTP/2's default, gRPC
	// does not measure the bandwidth by a PING with each message. Both save a twelfth of a publish with nothing to do.
	streamWorkers, window = 4, 64 << 10

	connectTimeout = 10 * time.Second // for the HTTP/2 handshake
)

// patience is how long a driver waits for others.
type patience struct {
	probe time.Duration // of its own sockets
	// After Run was told to stop, calls may go on for grace, and then they are canceled and may take cancel to end. The kubelet gives
	// a pod 30 seconds.
	grace, cancel time.Duration
}

func defaultPatience() patience {
	return patience{probe: 5 * time.Second, grace: 20 * time.Second, cancel: 3 * time.Second}
}

// listeners are the open addresses of a driver.
type listeners struct {
	csi     net.Listener
	service net.Listener // nil without a service beside CSI
	web     net.Listener // nil if HTTP is off
}

// Run serves until the context ends, and then stops gracefully and returns nil. If a server fails it returns that error. It
// logs to klog.FromContext(ctx).
func (d *Driver) Run(ctx context.Context) error {
	open, err := d.listen(ctx)
	if err != nil {
		return err
	}
	return d.serve(ctx, open)
}

// listen opens all addresses before the first server starts, so that a bad one is an error at once.
func (d *Driver) listen(ctx context.Context) (open listeners, err error) {
	defer func() {
		if err != nil {
			open.close()
		}
	}()
	if open.csi, err = listenUnix(ctx, d.socket); err != nil {
		return open, err
	}
	if d.service.Service != nil {
		if open.service, err = listenUnix(ctx, d.service.socket); err != nil {
			return open, err
		}
	}
	if d.config.HTTPAddress == "" {
		return open, nil
	}
	var config net.ListenConfig
	if open.web, err = config.Listen(ctx, "tcp", d.config.HTTPAddress); err != nil {
		return open, fmt.Errorf("listening for HTTP: %w", err)
	}
	return open, nil
}

func (l listeners) close() {
	for _, listener := range []net.Listener{l.csi, l.service, l.web} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// serve runs the servers until the context ends or one of them fails. It first withdraws the registration, then ends the
// calls, and health last.
func (d *Driver) serve(ctx context.Context, open listeners) error {
	logger := klog.FromContext(ctx)
	failed := make(chan error, 4)

	var servers []*grpc.Server
	serve := func(name string, server *grpc.Server, listener net.Listener) {
		servers = append(servers, server)
		go func() { failed <- fmt.Errorf("the %s server ended: %w", name, server.Serve(listener)) }()
	}
	serve("CSI", d.csiServer(logger), open.csi)
	logger.Info("serving CSI", "name", d.config.Name, "version", d.config.Version, "node", d.config.NodeID, "endpoint", d.config.Endpoint)
	if open.service != nil {
		serve(d.service.socket, d.serviceServer(logger), open.service)
		logger.Info("serving beside CSI", "socket", d.service.socket)
	}

	httpServer := d.httpServer()
	if open.web != nil {
		go func() { failed <- fmt.Errorf("the HTTP server ended: %w", httpServer.Serve(open.web)) }()
		logger.Info("serving health and metrics", "address", open.web.Addr().String())
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
	var drained sync.WaitGroup
	for _, server := range servers {
		drained.Go(func() { drain(server, d.patience) })
	}
	drained.Wait()
	_ = httpServer.Close()
	return err
}

func (d *Driver) csiServer(logger klog.Logger) *grpc.Server {
	server := newServer(maxStreams, d.intercept(logger, describe, d.node.logged))
	csi.RegisterIdentityServer(server, &identityServer{name: d.config.Name, version: d.config.Version})
	csi.RegisterNodeServer(server, d.node)
	return server
}

func (d *Driver) serviceServer(logger klog.Logger) *grpc.Server {
	server := newServer(maxServiceStreams, d.intercept(logger, d.service.Describe, d.service.Answered))
	d.service.Register(server)
	return server
}

// newServer needs no keepalive: a unix socket reports the end of the other process at once.
func newServer(streams uint32, interceptor grpc.UnaryServerInterceptor) *grpc.Server {
	return grpc.NewServer(
		grpc.UnaryInterceptor(interceptor),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(streams),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
	)
}

// drain stops a server: new calls are refused at once, those that run are canceled after the grace. A call that ignores that
// is left behind: the process ends, and the store can be interrupted anywhere.
func drain(server *grpc.Server, p patience) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer time.AfterFunc(p.grace, server.Stop).Stop()
		server.GracefulStop()
	}()
	select {
	case <-drained:
	case <-time.After(p.grace + p.cancel):
	}
}

// probe asks the driver's own sockets over new connections, as the kubelet does. So it also fails if a socket file was
// removed, which a restart repairs. It does not repair what another program has put there.
func (d *Driver) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.patience.probe)
	defer cancel()

	err := withConn(d.socket, func(conn *grpc.ClientConn) error {
		_, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
		return err
	})
	if err != nil {
		return fmt.Errorf("probing %s: %w", d.socket, err)
	}
	return d.service.probe(ctx)
}
