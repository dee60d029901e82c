package driver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Service is a gRPC service beside CSI, on a socket of its own. Its handlers return errors of package volume.
type Service interface {
	// Register registers the handlers.
	Register(server grpc.ServiceRegistrar)
	// Describe returns all that may be logged of a request, as keys and values, and the level at which a success is logged. A
	// value is cut after 1 KiB.
	Describe(req any) (values []any, level int)
	// Answered is called after each call with its status. A repeated failure is logged as a success is.
	Answered(req any, err error) (repeated bool)
	// Probe asks the service at a connection. ours is false if it is the service of another program.
	Probe(ctx context.Context, conn grpc.ClientConnInterface) (ours bool, err error)
}

// service is a [Service] and its socket. The zero value is none.
type service struct {
	Service

	socket string
}

// errNotOurs is no reason to restart: the driver does not start where another process listens.
var errNotOurs = errors.New("another program answers there; stop it, or the driver's service")

// Pipeline returns the pipeline of the CSI service, for a [Service].
func (d *Driver) Pipeline() *Pipeline {
	p := *d.node.pipeline
	p.timeout = ""
	return &p
}

// AddService lets [Driver.Run] serve s on a socket, an absolute path of at most 107 bytes. It must be called before Run, at
// most once.
func (d *Driver) AddService(socket string, s Service) error {
	clean := filepath.Clean(socket)
	switch {
	case !filepath.IsAbs(socket):
		return fmt.Errorf("%q is not an absolute path", socket)
	case len(socket) > maxSocketPath:
		return fmt.Errorf("%q is longer than %d bytes", socket, maxSocketPath)
	case clean == d.socket, d.config.RegistrationSocket != "" && clean == filepath.Clean(d.config.RegistrationSocket):
		return fmt.Errorf("%q is another socket of the driver", socket)
	}
	d.service = service{s, clean}
	return nil
}

// probe asks the service over a new connection. The error is errNotOurs if another program has replaced the socket.
func (s service) probe(ctx context.Context) error {
	if s.Service == nil {
		return nil
	}
	ours := false
	err := withConn(s.socket, func(conn *grpc.ClientConn) (err error) {
		ours, err = s.Probe(ctx, conn)
		return err
	})
	if err == nil && !ours {
		err = errNotOurs
	}
	if err != nil {
		return fmt.Errorf("probing %s: %w", s.socket, err)
	}
	return nil
}

// withConn calls ask with a new connection to a socket of this process.
func withConn(socket string, ask func(*grpc.ClientConn) error) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return ask(conn)
}
