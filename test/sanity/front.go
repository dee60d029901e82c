package main

import (
	"context"
	"net"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// front is the controller for csi-sanity, which only stores names. The daemon has no controller, and without one csi-sanity counts the
// specs of a controller as failed and does not publish. front also forwards the daemon's Identity and Node services, because csi-sanity
// tests Identity at a controller's endpoint too, and publishes most at a node's endpoint with a controller.
type front struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	identity csi.IdentityClient
	node     csi.NodeClient

	mu      sync.Mutex
	volumes map[string]int64 // name, which is also the id, to size
}

// serve serves a socket until the returned function is called.
func (f *front) serve(ctx context.Context, socket string) (stop func(), err error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, f)
	csi.RegisterControllerServer(server, f)
	csi.RegisterNodeServer(server, f)
	go func() { _ = server.Serve(listener) }()
	return server.Stop, nil
}

func (f *front) GetPluginInfo(ctx context.Context, r *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return f.identity.GetPluginInfo(ctx, r)
}

func (f *front) Probe(ctx context.Context, r *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return f.identity.Probe(ctx, r)
}

// GetPluginCapabilities adds the capability of a controller.
func (f *front) GetPluginCapabilities(ctx context.Context, r *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	response, err := f.identity.GetPluginCapabilities(ctx, r)
	if err != nil {
		return nil, err
	}
	response.Capabilities = append(response.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
		Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE},
	}})
	return response, nil
}

func (f *front) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	return f.node.NodePublishVolume(ctx, r)
}

func (f *front) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	return f.node.NodeUnpublishVolume(ctx, r)
}

func (f *front) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	return f.node.NodeGetVolumeStats(ctx, r)
}

func (f *front) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	return f.node.NodeGetVolumeHealth(ctx, r)
}

func (f *front) NodeGetCapabilities(ctx context.Context, r *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return f.node.NodeGetCapabilities(ctx, r)
}

func (f *front) NodeGetInfo(ctx context.Context, r *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return f.node.NodeGetInfo(ctx, r)
}

func (f *front) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{{
		Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{
			Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		}},
	}}}, nil
}

// CreateVolume returns the parameters as the volume context, where a kubelet has the attributes.
func (f *front) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	switch {
	case r.GetName() == "":
		return nil, status.Error(codes.InvalidArgument, "no name")
	case len(r.GetVolumeCapabilities()) == 0:
		return nil, status.Error(codes.InvalidArgument, "no capabilities")
	}
	size := r.GetCapacityRange().GetRequiredBytes()
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.volumes[r.GetName()]; ok && known != size {
		return nil, status.Error(codes.AlreadyExists, "the same name with another size")
	}
	f.volumes[r.GetName()] = size
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: r.GetName(), CapacityBytes: size, VolumeContext: r.GetParameters(),
	}}, nil
}

func (f *front) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.volumes, r.GetVolumeId())
	return &csi.DeleteVolumeResponse{}, nil
}

func (f *front) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	f.mu.Lock()
	_, known := f.volumes[r.GetVolumeId()]
	f.mu.Unlock()
	switch {
	case r.GetVolumeId() == "":
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	case len(r.GetVolumeCapabilities()) == 0:
		return nil, status.Error(codes.InvalidArgument, "no capabilities")
	case !known:
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeCapabilities: r.GetVolumeCapabilities(),
	}}, nil
}
