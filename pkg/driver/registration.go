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

// firstPause and longestPause bound how long the driver waits, after a refusal, before it makes its registration socket anew. The kubelet
// itself tries again, within 122 s, only if it has refused the driver's name or versions; one that has failed later, such as in the call of
// NodeGetInfo or at its CSINode object, waits for another socket (pkg/kubelet/pluginmanager).
const (
	firstPause   = 5 * time.Second
	longestPause = 2 * time.Minute
)

// register offers the driver to the kubelet until the context ends. The kubelet watches the folder of the registration
// socket and calls as soon as the file is there, so the file must not be there before the CSI socket answers.
func (d *Driver) register(ctx context.Context) error {
	if d.config.RegistrationSocket == "" {
		return nil
	}
	// First the socket of a process that was killed, so that it is gone also when this one is told to stop before it listens.
	if err := removeStale(context.WithoutCancel(ctx), d.config.RegistrationSocket); err != nil {
		return err
	}
	if err := d.probe(ctx); err != nil {
		return unlessDone(ctx, err)
	}
	logger := klog.FromContext(ctx)
	logger.Info("waiting for the kubelet to register the driver", keyEndpoint, d.config.RegistrationSocket)
	r := &registrationServer{driver: d, logger: logger, told: make(chan struct{}, 1), pause: firstPause}
	for {
		if err := r.offer(ctx); err != nil || ctx.Err() != nil {
			return unlessDone(ctx, err)
		}
	}
}

// offer serves the registration socket until the context ends, or a refusal is as old as the pause.
func (s *registrationServer) offer(ctx context.Context) error {
	listener, err := listenUnix(ctx, s.driver.config.RegistrationSocket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ConnectionTimeout(connectTimeout))
	registerapi.RegisterRegistrationServer(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer drain(server, registrationGrace)

	var over <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return describeFailure("registration server", err)
		case <-over:
			if s.refused() {
				return nil
			}
		case <-s.told:
		}
		switch {
		case !s.refused():
			over, s.pause = nil, firstPause
		case over == nil:
			over, s.pause = s.driver.after(s.pause), min(2*s.pause, longestPause)
		}
	}
}

func (s *registrationServer) refused() bool { return s.driver.registration.Load().refused != "" }

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

	driver *Driver
	logger klog.Logger
	told   chan struct{} // that Driver.registration has changed
	pause  time.Duration // after the next refusal; offer's own
}

// registration is what the kubelet has said last.
type registration struct {
	refused string // why, on one line; empty if it has registered the driver
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
	said := registration{}
	if !req.GetPluginRegistered() {
		said.refused = fmt.Sprintf("the kubelet refused to register %s: %s", s.driver.config.Name, oneLine(req.GetError()))
		s.driver.metrics.refusals.Inc()
	}
	before := s.driver.registration.Swap(&said)
	switch {
	case said.refused == "":
		s.logger.Info("the kubelet has registered the driver")
	case before == nil || *before != said:
		s.logger.Error(errors.New(said.refused), "not registered; the driver offers itself again")
	}
	select {
	case s.told <- struct{}{}:
	default: // it is yet to look
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}
