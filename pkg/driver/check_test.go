package driver

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// Each row changes one thing of a valid request. DIR stands for the test's folder.
func TestNodePublishVolumeChecks(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())

	mount := func(r *csi.NodePublishVolumeRequest) *csi.VolumeCapability_MountVolume {
		return r.GetVolumeCapability().GetMount()
	}
	for name, tc := range map[string]struct {
		change func(*csi.NodePublishVolumeRequest)
		code   codes.Code
		text   string
	}{
		"valid":          {change: func(*csi.NodePublishVolumeRequest) {}},
		"fs type":        {change: func(r *csi.NodePublishVolumeRequest) { mount(r).FsType = "ext4" }},
		"group":          {change: func(r *csi.NodePublishVolumeRequest) { mount(r).VolumeMountGroup = "4294967294" }},
		"no ephemeral":   {change: func(r *csi.NodePublishVolumeRequest) { delete(r.VolumeContext, "csi.storage.k8s.io/ephemeral") }},
		"staging":        {change: func(r *csi.NodePublishVolumeRequest) { r.StagingTargetPath = "/staging" }},
		"trailing slash": {change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath += "/" }},
		"no volume id": {
			change: func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "" },
			code:   codes.InvalidArgument, text: "volume_id is missing",
		},
		"volume id as long as may be": {change: func(r *csi.NodePublishVolumeRequest) { r.VolumeId = strings.Repeat("v", 128) }},
		"long volume id": {
			change: func(r *csi.NodePublishVolumeRequest) { r.VolumeId = strings.Repeat("v", 129) },
			code:   codes.InvalidArgument, text: "volume_id has 129 bytes, more than the 128 of the CSI specification",
		},
		"long target": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "/" + strings.Repeat("x", 4095) },
			code:   codes.InvalidArgument, text: "target_path has 4096 bytes, more than the 4095 of a path",
		},
		"target with a NUL": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "/a\x00b" },
			code:   codes.InvalidArgument, text: `target_path "/a\x00b" holds a NUL, which no path does`,
		},
		"no target": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "" },
			code:   codes.InvalidArgument, text: "target_path is missing",
		},
		"relative target": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "pods/mount" },
			code:   codes.InvalidArgument, text: `target_path "pods/mount" is not an absolute path`,
		},
		"target outside": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "/etc" },
			code:   codes.InvalidArgument, text: `target_path "/etc" is not below the kubelet's root DIR/kubelet/ (--kubelet-root)`,
		},
		"target climbs out": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = h.config.KubeletRoot + "/pods/../../x" },
			code:   codes.InvalidArgument, text: `target_path "DIR/x" is not below the kubelet's root DIR/kubelet/ (--kubelet-root)`,
		},
		"target beside": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = h.config.KubeletRoot + "-2/x" },
			code:   codes.InvalidArgument, text: `target_path "DIR/kubelet-2/x" is not below the kubelet's root DIR/kubelet/ (--kubelet-root)`,
		},
		"target is the root": {
			change: func(r *csi.NodePublishVolumeRequest) { r.TargetPath = h.config.KubeletRoot },
			code:   codes.InvalidArgument, text: `target_path "DIR/kubelet" is not below the kubelet's root DIR/kubelet/ (--kubelet-root)`,
		},
		"no capability": {
			change: func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = nil },
			code:   codes.InvalidArgument, text: "volume_capability is missing",
		},
		"no access type": {
			change: func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.AccessType = nil },
			code:   codes.InvalidArgument, text: "volume_capability has no access type; this driver needs mount",
		},
		"block": {
			change: func(r *csi.NodePublishVolumeRequest) {
				r.VolumeCapability.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
			},
			code: codes.InvalidArgument, text: "a block volume was asked for; this driver has file systems only",
		},
		"persistent": {
			change: func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["csi.storage.k8s.io/ephemeral"] = "false" },
			code:   codes.InvalidArgument, text: "a persistent volume was asked for; this driver has inline volumes of pods only",
		},
		"group by name": {
			change: func(r *csi.NodePublishVolumeRequest) { mount(r).VolumeMountGroup = "staff" },
			code:   codes.InvalidArgument, text: `volume_mount_group "staff" is not a group id`,
		},
		"negative group": {
			change: func(r *csi.NodePublishVolumeRequest) { mount(r).VolumeMountGroup = "-1" },
			code:   codes.InvalidArgument, text: `volume_mount_group "-1" is not a group id`,
		},
		"group that is none": {
			change: func(r *csi.NodePublishVolumeRequest) { mount(r).VolumeMountGroup = "4294967295" },
			code:   codes.InvalidArgument, text: `volume_mount_group "4294967295" is not a group id`,
		},
		"mount flag": {
			change: func(r *csi.NodePublishVolumeRequest) { mount(r).MountFlags = []string{"context=a:b:c", "exec"} },
			code:   codes.InvalidArgument, text: `mount flag "context=a:b:c" is not supported; the driver sets all flags itself`,
		},
		"writable": {
			change: func(r *csi.NodePublishVolumeRequest) { r.Readonly = false },
			code:   codes.InvalidArgument, text: "the volume is not read-only, and nothing may write to it; set readOnly: true under csi",
		},
		"writable, before anything else": {
			change: func(r *csi.NodePublishVolumeRequest) { r.Reset() },
			code:   codes.InvalidArgument, text: "the volume is not read-only, and nothing may write to it; set readOnly: true under csi",
		},
		"bad attributes": {
			change: func(r *csi.NodePublishVolumeRequest) {
				r.VolumeContext["rotationInterval"] = "1s"
				r.VolumeContext["timeout"] = "2h"
			},
			code: codes.InvalidArgument,
			text: `rotationInterval: "1s" must be a Go duration of at least 30s such as "5m", or "0" for never; ` +
				`timeout: "2h" must be a Go duration above 0 and up to 110s such as "90s"`,
		},
	} {
		t.Run(name, func(t *testing.T) { // not parallel: the rows share one target
			r := h.request()
			tc.change(r)
			_, err := h.node.NodePublishVolume(t.Context(), r)
			wantStatus(t, err, tc.code, strings.ReplaceAll(tc.text, "DIR", h.dir))
			if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
				t.Error(err)
			}
		})
	}
}
