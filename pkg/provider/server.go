package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	protocol = "v1alpha1"
	runtime  = "keyvault-csi"

	// defaultInterval is the age from which a value is fetched again if the driver's own volumes are never refreshed: the
	// Secrets Store CSI Driver polls only if its operator asks for it.
	defaultInterval = 2 * time.Minute
)

// Pipeline reads the content of volumes under the policy and the limits of the operator.
type Pipeline interface {
	// Run calls parse, fetches, and calls use with the content, whose memory is reserved until use returns. The error is a
	// sentinel of package volume or the context's.
	Run(ctx context.Context, attributes, secrets map[string]string, parse func() (volume.Request, error),
		use func(context.Context, volume.Content) error) error
	// Forget is called when a volume (volume.Request.Volume) is gone. It may never have been fetched.
	Forget(volume string)
}

// Options are the configuration of a [Server].
type Options struct {
	Version  string // of this build
	Class    providerclass.Options
	Metrics  prometheus.Registerer
	Pipeline Pipeline
	Now      func() time.Time // the clock; nil means time.Now
}

// Server is the service v1alpha1.CSIDriverProvider. Its handlers return errors of package volume. It is safe for concurrent
// use.
type Server struct {
	v1alpha1.UnimplementedCSIDriverProviderServer

	version  string
	class    providerclass.Options
	interval time.Duration
	pipeline Pipeline
	requests *prometheus.CounterVec
	targets  targets
}

// New registers the metrics.
func New(o Options) (*Server, error) {
	s := &Server{
		version: semantic(o.Version), class: o.Class, pipeline: o.Pipeline,
		interval: cmp.Or(o.Class.Defaults.RotationInterval, defaultInterval),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyvault_csi_provider_requests_total",
			Help: "Mount calls of the Secrets Store CSI Driver by gRPC code.",
		}, []string{"code"}),
		targets: targets{now: o.Now, known: map[string]target{}},
	}
	if s.targets.now == nil {
		s.targets.now = time.Now
	}
	s.requests.WithLabelValues(codes.OK.String()) // a rate needs the series before the first call
	if err := o.Metrics.Register(s.requests); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return s, nil
}

// Register registers the handlers.
func (s *Server) Register(server grpc.ServiceRegistrar) {
	v1alpha1.RegisterCSIDriverProviderServer(server, s)
}

// Describe returns all that may be logged of a request, and the level at which a success is logged.
func (s *Server) Describe(req any) (values []any, level int) {
	mount, ok := req.(*v1alpha1.MountRequest)
	if !ok {
		return nil, 6
	}
	var attributes map[string]string
	_ = json.Unmarshal([]byte(mount.GetAttributes()), &attributes) // Mount reports the error
	pod := attributes[volume.KubeletPodNamespace] + "/" + attributes[volume.KubeletPodName]
	return []any{"target", mount.GetTargetPath(), "pod", pod}, 4
}

// Answered counts a call, and reports whether it repeats the failure of the call before: in an outage every volume is polled
// every minute.
func (s *Server) Answered(req any, err error) (repeated bool) {
	mount, ok := req.(*v1alpha1.MountRequest)
	if !ok {
		return false
	}
	s.requests.WithLabelValues(status.Code(err).String()).Inc()
	return err != nil && s.targets.fail(mount.GetTargetPath(), err.Error())
}

// Probe asks the provider at a connection. ours is false if it is another provider.
func (s *Server) Probe(ctx context.Context, conn grpc.ClientConnInterface) (ours bool, err error) {
	version, err := v1alpha1.NewCSIDriverProviderClient(conn).Version(ctx, &v1alpha1.VersionRequest{Version: protocol})
	if status.Code(err) == codes.Unimplemented { // as of old providers
		return false, nil
	}
	return version.GetRuntimeName() == runtime, err
}

// Version implements the service.
func (s *Server) Version(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	return &v1alpha1.VersionResponse{Version: protocol, RuntimeName: runtime, RuntimeVersion: s.version}, nil
}

// Tidy forgets the volumes that were not seen for so long that they are probably gone.
func (s *Server) Tidy() { s.targets.tidy(s.pipeline.Forget) }
