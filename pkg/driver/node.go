package driver

import (
	"context"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// nodeServer is the CSI Node service. Its handlers return errors of package volume; the interceptor turns them into gRPC
// codes.
type nodeServer struct {
	csi.UnimplementedNodeServer

	config       Config
	root         string // the kubelet's, clean, with a trailing slash
	capabilities *csi.NodeGetCapabilitiesResponse
	parser       *volume.Parser
	pipeline     *Pipeline
	metrics      *metrics
	now          func() time.Time

	targets sync.Map // those that a call works on
	volumes sync.Map // the volumes known since the start: CSI volume id -> volumeHealth. No call depends on it.
	sets    sync.Map // their sets: CSI volume id -> knownSet
}

func (n *nodeServer) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	mount, err := n.checkPublish(req)
	if err != nil {
		return nil, err
	}
	unlock, err := n.lock(mount.Target)
	if err != nil {
		return nil, err
	}
	defer unlock()

	err = n.publish(ctx, publishRequest{volumeID: req.GetVolumeId(), mount: mount, attributes: req.GetVolumeContext(), secrets: req.GetSecrets()})
	if err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume needs no vault and no record of the volume, so it also works after a restart.
func (n *nodeServer) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target, err := n.checkUnpublish(req)
	if err != nil {
		return nil, err
	}
	unlock, err := n.lock(target)
	if err != nil {
		return nil, err
	}
	defer unlock()

	if err := n.config.Store.Unpublish(target); err != nil {
		return nil, err
	}
	n.forget(req.GetVolumeId())
	klog.FromContext(ctx).Info("volume removed")
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// forget is for a volume that is not mounted.
func (n *nodeServer) forget(volumeID string) {
	n.volumes.Delete(volumeID)
	n.sets.Delete(volumeID)
	n.pipeline.Forget(volumeID)
}

// lock reserves a cleaned target for one call. The kubelet starts no second call for a target, but a retry can overlap a
// call that timed out.
func (n *nodeServer) lock(target string) (unlock func(), err error) {
	if _, locked := n.targets.LoadOrStore(target, struct{}{}); locked {
		return nil, volume.Errorf(errBusy, "a call for %s runs already", target)
	}
	return func() { n.targets.Delete(target) }, nil
}

func (n *nodeServer) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	u, err := n.usage(req.GetVolumeId(), "volume_path", req.GetVolumePath())
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: u.TotalBytes, Used: u.UsedBytes, Available: u.AvailableBytes},
		{Unit: csi.VolumeUsage_INODES, Total: u.TotalInodes, Used: u.UsedInodes, Available: u.AvailableInodes},
	}}, nil
}

// newCapabilities is called once for all calls: the kubelet asks twice before each publish.
func newCapabilities() *csi.NodeGetCapabilitiesResponse {
	response := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP,
	} {
		capability := &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}}
		response.Capabilities = append(response.Capabilities, capability)
	}
	return response
}

func (n *nodeServer) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return n.capabilities, nil
}

// NodeGetInfo has no limit of volumes: they are inline in the pods of this node. The kubelet asks once, when it registers the driver, and
// writes the topology as a label of its Node, by which a pod can wait for a node that has the driver. The label is the same on all
// nodes, and for all names of the driver: any other value on a Node would make the kubelet refuse the registration.
func (n *nodeServer) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{
		NodeId:             n.config.NodeID,
		AccessibleTopology: &csi.Topology{Segments: map[string]string{"topology.keyvault-csi.io/ready": "true"}},
	}, nil
}
