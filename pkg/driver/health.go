package driver

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The reasons of an adverse health status, in the CamelCase that the CSI specification asks for.
const (
	reasonRefreshFailed = "RefreshFailed" // the last refresh failed; the set is still usable
	reasonStale         = "Stale"         // the last refresh failed; the set is older than is tolerated
	reasonTampered      = "Tampered"      // another process had changed the set; the last refresh has replaced it
	reasonWritable      = "Writable"      // the file system could not be made read-only

	reasonIncompleteChain = "IncompleteChain" // a chain has a gap
)

// volumeHealth is the result of the last refresh of a volume. The zero value is a healthy volume.
type volumeHealth struct {
	reason  string
	message string // one line
}

func notRefreshed(message string, usable bool) volumeHealth {
	if usable {
		return volumeHealth{reasonRefreshFailed, oneLine(message)}
	}
	return volumeHealth{reasonStale, oneLine(message)}
}

// logged reports whether the failure of a call is the failure of a refresh that was logged before. In an outage every volume of the node
// has one each minute.
func (n *nodeServer) logged(req any, err error) bool {
	publish, isPublish := req.(*csi.NodePublishVolumeRequest)
	if !isPublish || err == nil {
		return false
	}
	stored, _ := n.volumes.Load(publish.GetVolumeId())
	return stored == notRefreshed(status.Convert(err).Message(), false)
}

// judge returns the health of a set without a failure: that of the publish, or else of its content. It logs a gap in a
// chain once.
func judge(logger klog.Logger, health, before volumeHealth, content volume.Content) volumeHealth {
	if health != (volumeHealth{}) || len(content.Gaps) == 0 {
		return health
	}
	health = volumeHealth{reasonIncompleteChain, oneLine(strings.Join(content.Gaps, "; "))}
	if health != before {
		logger.Error(nil, "volume has an incomplete chain of certificates; many clients do not accept it", "reason", health.message)
	}
	return health
}

// inspect logs and counts what must never happen: another process wrote into a volume, or still can. The latter is logged once, because a
// container can keep something open for days.
func (n *nodeServer) inspect(ctx context.Context, volumeID string, outcome volume.Outcome) (health volumeHealth) {
	if outcome.Writable != "" {
		n.metrics.writable.Inc()
		health = volumeHealth{reasonWritable, oneLine(outcome.Writable)}
		if before, _ := n.volumes.Load(volumeID); before != health {
			klog.FromContext(ctx).Error(nil, "volume is not read-only; the next call of the kubelet tries again", "reason", outcome.Writable)
		}
	}
	if outcome.Tampered != "" {
		n.metrics.tampered.Inc()
		klog.FromContext(ctx).Error(nil, "volume was changed by somebody else", "found", outcome.Tampered)
		health = volumeHealth{reasonTampered, oneLine("somebody else had changed the volume, and its files have been replaced: " + outcome.Tampered)}
	}
	return health
}

// NodeGetVolumeHealth reports what the last refresh of a volume has found: a failure, a set that another process had
// changed, a file system that is not read-only, or a gap in a chain.
func (n *nodeServer) NodeGetVolumeHealth(_ context.Context, req *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if req.GetVolumeId() == "" || req.GetVolumePublishPath() != "" { // the path is optional
		if _, err := n.usage(req.GetVolumeId(), "volume_publish_path", req.GetVolumePublishPath()); err != nil {
			return nil, err
		}
	}
	response := &csi.VolumeHealth{VolumeId: req.GetVolumeId()}
	stored, _ := n.volumes.Load(req.GetVolumeId())
	if health, _ := stored.(volumeHealth); health != (volumeHealth{}) {
		response.HealthStatuses = []*csi.VolumeHealth_VolumeHealthEntry{
			{Status: csi.VolumeHealthErrorType_DEGRADED, Reason: health.reason, Message: health.message},
		}
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: response}, nil
}

// countVolumes counts the volumes that are stale, or that are not.
func (n *nodeServer) countVolumes(stale bool) (count int) {
	for _, health := range n.volumes.Range {
		if (health.(volumeHealth).reason == reasonStale) == stale {
			count++
		}
	}
	return count
}
