package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	// registrationGrace is for the kubelet's call in flight: its two methods answer at once.
	registrationGrace = time.Second
	// csiVersion is the version of CSI that the kubelet is told. It compares only the major version.
	csiVersion = "1.0.0"
	// firstPause and longestPause bound the time between a refusal and a new registration socket. The kubelet itself tries
	// again, within 122 s, only if it has refused the driver's name or versions. If it failed later, such as in NodeGetInfo
	// or at its CSINode object, it waits for a new socket (pkg/kubelet/pluginmanager).
	firstPause, longestPause = 5 * time.Second, 2 * time.Minute
)

// registrationServer answers the kubelet's plugin watcher.
type registrationServer struct {
	registerapi.UnimplementedRegistrationServer

	driver  *Driver
	logger  klog.Logger
	changed chan struct{} // signals that Driver.registration has changed
	pause   time.Duration // after the next refusal
}

// register offers the driver to the kubelet until the context ends. The kubelet calls as soon as the file of the socket is
// there, so the CSI socket must answer first.
func (d *Driver) register(ctx context.Context) error {
	if d.config.RegistrationSocket == "" {
		return nil
	}
	// The socket of a killed process must be gone also when this process is stopped before it listens.
	if err := removeStale(context.WithoutCancel(ctx), d.config.RegistrationSocket); err != nil {
		return err
	}
	err := d.probe(ctx)
	logger := klog.FromContext(ctx)
	if err == nil {
		logger.Info("waiting for the kubelet to register the driver", "endpoint", d.config.RegistrationSocket)
	}
	s := &registrationServer{driver: d, logger: logger, changed: make(chan struct{}, 1), pause: firstPause}
	for err == nil && ctx.Err() == nil {
		err = s.offer(ctx)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the driver was told to stop
	}
	return err
}

// offer serves the registration socket until the context ends, or until the kubelet has refused the driver and the pause is
// over.
func (s *registrationServer) offer(ctx context.Context) error {
	listener, err := listenUnix(ctx, s.driver.config.RegistrationSocket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ConnectionTimeout(connectTimeout))
	registerapi.RegisterRegistrationServer(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer drain(server, patience{grace: registrationGrace, cancel: s.driver.patience.cancel})
	s.driver.offering.Store(true)
	defer s.driver.offering.Store(false)

	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("the registration server ended: %w", err)
		case <-retry:
			if s.refused() {
				return nil
			}
		case <-s.changed:
		}
		switch {
		case !s.refused():
			retry, s.pause = nil, firstPause
		case retry == nil:
			retry, s.pause = s.driver.after(s.pause), min(2*s.pause, longestPause)
		}
	}
}

// offered returns an error if somebody has removed the registration socket. The kubelet then takes the driver away, and no new pod gets a
// volume. A restart makes the socket again.
func (d *Driver) offered() error {
	if !d.offering.Load() {
		return nil
	}
	if _, err := os.Lstat(d.config.RegistrationSocket); err != nil {
		return fmt.Errorf("the registration socket was removed: %w", err)
	}
	return nil
}

func (s *registrationServer) refused() bool { return *s.driver.registration.Load() != "" }

func (s *registrationServer) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type:              registerapi.CSIPlugin,
		Name:              s.driver.config.Name,
		Endpoint:          s.driver.config.KubeletCSISocket,
		SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus follows each GetInfo. A kubelet that restarts calls both again.
func (s *registrationServer) NotifyRegistrationStatus(_ context.Context, req *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	refusal := ""
	if !req.GetPluginRegistered() {
		refusal = fmt.Sprintf("the kubelet refused to register %s: %s", s.driver.config.Name, oneLine(req.GetError()))
		s.driver.node.metrics.refusals.Inc()
	}
	before := s.driver.registration.Swap(&refusal)
	switch {
	case refusal == "":
		s.logger.Info("the kubelet has registered the driver")
	case before == nil || *before != refusal:
		s.logger.Error(errors.New(refusal), "not registered; the driver offers itself again")
	}
	select {
	case s.changed <- struct{}{}:
	default: // signaled already
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}
