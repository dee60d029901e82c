package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrationGrace is for the kubelet's call in flight: its two methods answer at once.
const registrationGrace = time.Second

// csiVersion is the version of CSI that the kubelet is told. It compares major versions only, and of those there is
// one.
const csiVersion = "1.0.0"

// register offers the driver to the kubelet until the context ends. The kubelet watches the folder of the registration
// socket and calls as soon as the file is there, so the file must not be there before the CSI socket answers. A
// refusal is an error: it ends the process, which is then started again and offers itself anew.
func (d *Driver) register(ctx context.Context) error {
	if d.config.RegistrationSocket == "" {
		return nil
	}
	if err := d.probe(ctx); err != nil {
		return unlessDone(ctx, err)
	}
	listener, err := listenUnix(ctx, d.config.RegistrationSocket)
	if err != nil {
		return unlessDone(ctx, err)
	}

	logger := klog.FromContext(ctx)
	registrar := &registrationServer{driver: d, logger: logger, refused: make(chan error, 1)}
	server := grpc.NewServer(grpc.ConnectionTimeout(connectTimeout))
	registerapi.RegisterRegistrationServer(server, registrar)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	logger.Info("waiting for the kubelet to register the driver", keyEndpoint, d.config.RegistrationSocket)

	defer drain(server, registrationGrace)
	select {
	case <-ctx.Done():
		return nil
	case err := <-registrar.refused:
		return err
	case err := <-ended:
		return describeFailure("registration server", err)
	}
}

// unlessDone: what fails because the driver was told to stop is no failure.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // as the name says
	}
	return err
}

// registrationServer answers the kubelet's plugin watcher.
type registrationServer struct {
	registerapi.UnimplementedRegistrationServer

	driver  *Driver
	logger  klog.Logger
	refused chan error
}

func (s *registrationServer) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type:              registerapi.CSIPlugin,
		Name:              s.driver.config.Name,
		Endpoint:          s.driver.config.KubeletCSISocket,
		SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus comes once after each GetInfo; again whenever the kubelet starts anew.
func (s *registrationServer) NotifyRegistrationStatus(_ context.Context, req *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	s.driver.registered.Store(req.GetPluginRegistered())
	if req.GetPluginRegistered() {
		s.logger.Info("the kubelet has registered the driver")
		return &registerapi.RegistrationStatusResponse{}, nil
	}
	err := fmt.Errorf("the kubelet refused to register %s: %w", s.driver.config.Name, errors.New(oneLine(req.GetError())))
	select {
	case s.refused <- err:
	default: // one refusal is enough
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}
