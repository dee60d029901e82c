package driver

import (
	"context"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// nodeServer is the CSI Node service. Its handlers return errors of package volume; the interceptor gives them codes.
type nodeServer struct {
	csi.UnimplementedNodeServer

	nodeID       string
	capabilities *csi.NodeGetCapabilitiesResponse

	root           string // the kubelet's, clean, with a trailing slash
	allowReadWrite bool   // accept a publish that is not read-only

	defaults volume.Defaults
	parser   *volume.Parser // with the defaults
	policy   Policy
	fetcher  Fetcher
	store    Store
	metrics  *metrics
	now      func() time.Time

	limits    volume.Limits
	admission *admission

	claims  claims
	notes   notes
	volumes sync.Map // by CSI volume id, those that are there: to be counted, and as far as known since the start
}

func (n *nodeServer) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	mount, err := n.checkPublish(req)
	if err != nil {
		return nil, err
	}
	release, err := n.claims.take(mount.Target)
	if err != nil {
		return nil, err
	}
	defer release()

	if err := n.publish(ctx, wish{
		volumeID:   req.GetVolumeId(),
		mount:      mount,
		attributes: req.GetVolumeContext(),
		secrets:    req.GetSecrets(),
	}); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume needs no cloud and no memory of the volume: it works on what it finds, also after a restart.
func (n *nodeServer) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target, err := n.checkUnpublish(req)
	if err != nil {
		return nil, err
	}
	release, err := n.claims.take(target)
	if err != nil {
		return nil, err
	}
	defer release()

	if err := n.store.Unpublish(target); err != nil {
		return nil, err
	}
	n.volumes.Delete(req.GetVolumeId())
	n.notes.drop(req.GetVolumeId())
	n.fetcher.Forget(req.GetVolumeId())
	klog.FromContext(ctx).Info("volume removed")
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (n *nodeServer) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	path, err := n.checkStats(req)
	if err != nil {
		return nil, err
	}
	u, err := n.store.Usage(path)
	if err != nil {
		return nil, err
	}
	response := &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: u.TotalBytes, Used: u.UsedBytes, Available: u.AvailableBytes},
		{Unit: csi.VolumeUsage_INODES, Total: u.TotalInodes, Used: u.UsedInodes, Available: u.AvailableInodes},
	}}
	failure, failed := n.notes.get(req.GetVolumeId())
	addCondition(response, failure, failed)
	return response, nil
}

// The reasons of an adverse health status, in the CamelCase that the CSI specification asks for.
const (
	reasonRefreshFailed = "RefreshFailed" // the last refresh failed; the set is younger than what is tolerated
	reasonStale         = "Stale"         // and it is older
	reasonTampered      = "Tampered"      // somebody else had changed the set; the last refresh has replaced it
	reasonWritable      = "Writable"      // the file system could not be made read-only
)

// NodeGetVolumeHealth tells of a set that cannot be refreshed while its pod runs on with it. It took the place of the
// VolumeCondition of NodeGetVolumeStats in version 1.13 of the CSI specification; see addCondition.
func (n *nodeServer) NodeGetVolumeHealth(_ context.Context, req *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := n.checkHealth(req); err != nil {
		return nil, err
	}
	health := &csi.VolumeHealth{VolumeId: req.GetVolumeId()}
	if failure, failed := n.notes.get(req.GetVolumeId()); failed {
		entry := &csi.VolumeHealth_VolumeHealthEntry{
			Status:  csi.VolumeHealthErrorType_DEGRADED,
			Reason:  failure.reason,
			Message: failure.text,
		}
		health.HealthStatuses = append(health.HealthStatuses, entry)
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: health}, nil
}

// newCapabilities is called once for all calls: the kubelet asks twice before each publish.
func newCapabilities() *csi.NodeGetCapabilitiesResponse {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{
		capability(csi.NodeServiceCapability_RPC_GET_VOLUME_STATS),
		capability(capabilityVolumeCondition),
		capability(csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH),
		capability(csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP),
	}}
}

func capability(t csi.NodeServiceCapability_RPC_Type) *csi.NodeServiceCapability {
	return &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}}
}

func (n *nodeServer) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return n.capabilities, nil
}

// NodeGetInfo names the node. Volumes are inline, so neither topology nor a limit of volumes means anything.
func (n *nodeServer) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.nodeID}, nil
}
