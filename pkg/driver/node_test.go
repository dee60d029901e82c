package driver

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestNodeUnpublishVolume(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f)

	for name, tc := range map[string]struct {
		change func(*csi.NodeUnpublishVolumeRequest)
		text   string
	}{
		"no volume id":    {func(r *csi.NodeUnpublishVolumeRequest) { r.VolumeId = "" }, "volume_id is missing"},
		"no target":       {func(r *csi.NodeUnpublishVolumeRequest) { r.TargetPath = "" }, "target_path is missing"},
		"relative target": {func(r *csi.NodeUnpublishVolumeRequest) { r.TargetPath = "x" }, `target_path "x" is not an absolute path`},
		"target outside": {
			func(r *csi.NodeUnpublishVolumeRequest) { r.TargetPath = "/" },
			`target_path "/" is not below the kubelet's root DIR/kubelet/ (--kubelet-root)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.unpublish()
			tc.change(r)
			_, err := h.node.NodeUnpublishVolume(t.Context(), r)
			wantStatus(t, err, codes.InvalidArgument, strings.ReplaceAll(tc.text, "DIR", h.dir))
		})
	}
	if n := f.called("Unpublish"); n != 0 {
		t.Errorf("the store was called %d times for bad requests", n)
	}

	for range 2 { // of what is not there is success
		if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
			t.Error(err)
		}
	}
	f.unpublish = func(string) error { return errors.New("umount: busy") }
	_, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish())
	wantStatus(t, err, codes.Internal, "umount: busy")
}

// While one call for a target runs, others are refused: also for unpublish, and for another spelling of the path.
func TestTargetLock(t *testing.T) {
	t.Parallel()
	f := newFakes()
	inside, leave := make(chan struct{}), make(chan struct{})
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) {
		inside <- struct{}{}
		<-leave
		return volume.Content{Fetched: f.clock()}, nil
	}
	h := startDriver(t, f)
	done := make(chan error)
	go func() { done <- h.publish(t) }()
	<-inside

	busy := "a call for " + h.target() + " runs already"
	wantStatus(t, h.publish(t), codes.Aborted, busy)
	r := h.request()
	r.TargetPath += "/../mount/"
	_, err := h.node.NodePublishVolume(t.Context(), r)
	wantStatus(t, err, codes.Aborted, busy)
	_, err = h.node.NodeUnpublishVolume(t.Context(), h.unpublish())
	wantStatus(t, err, codes.Aborted, busy)

	// Another target is free.
	r = h.request()
	r.VolumeId, r.TargetPath = "csi-2", r.TargetPath+"2"
	go func() {
		_, err := h.node.NodePublishVolume(t.Context(), r)
		done <- err
	}()
	<-inside

	close(leave)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
		t.Errorf("the target was not unlocked: %v", err)
	}
}

func TestNodeGetVolumeStats(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	resp, err := h.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "csi-1", VolumePath: h.target()})
	if err != nil {
		t.Fatal(err)
	}
	got := make([][4]int64, 0, 2)
	for _, u := range resp.GetUsage() {
		got = append(got, [4]int64{int64(u.GetUnit()), u.GetTotal(), u.GetUsed(), u.GetAvailable()})
	}
	want := [][4]int64{{int64(csi.VolumeUsage_BYTES), 1000, 400, 600}, {int64(csi.VolumeUsage_INODES), 10, 4, 6}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}

	for name, tc := range map[string]struct {
		id, path string
		code     codes.Code
		text     string
	}{
		"no volume id":  {"", h.target(), codes.InvalidArgument, "volume_id is missing"},
		"no path":       {"csi-1", "", codes.InvalidArgument, "volume_path is missing"},
		"relative path": {"csi-1", "some/path", codes.NotFound, `no volume is published: volume_path "some/path" is not an absolute path`},
		"no volume":     {"csi-1", h.target() + "2", codes.NotFound, "no volume is published at " + h.target() + "2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: tc.id, VolumePath: tc.path})
			wantStatus(t, err, tc.code, tc.text)
		})
	}
}

func TestNodeGetVolumeHealthChecks(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())
	if err := h.publish(t); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		id, path string
		code     codes.Code
		text     string
	}{
		"volume":        {id: "csi-1", path: h.target()},
		"without path":  {id: "csi-1"},
		"no volume id":  {"", h.target(), codes.InvalidArgument, "volume_id is missing"},
		"relative path": {"csi-1", "x", codes.NotFound, `no volume is published: volume_publish_path "x" is not an absolute path`},
		"no volume":     {"csi-1", h.target() + "2", codes.NotFound, "no volume is published at " + h.target() + "2"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := h.node.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: tc.id, VolumePublishPath: tc.path})
			wantStatus(t, err, tc.code, tc.text)
			if err == nil && (resp.GetVolumeHealth().GetVolumeId() != tc.id || len(resp.GetVolumeHealth().GetHealthStatuses()) != 0) {
				t.Errorf("got %v, want no adverse status of %s", resp, tc.id)
			}
		})
	}
}

func TestWhatTheDriverIs(t *testing.T) {
	t.Parallel()
	h := startDriver(t, newFakes())

	if r, err := h.identity.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{}); err != nil ||
		r.GetName() != "keyvault-csi.io" || r.GetVendorVersion() != "v1.2.3" {
		t.Errorf("GetPluginInfo = %v, %v", r, err)
	}
	if r, err := h.identity.GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{}); err != nil || len(r.GetCapabilities()) != 1 ||
		r.GetCapabilities()[0].GetService().GetType() != csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS {
		t.Errorf("GetPluginCapabilities = %v, %v, want VOLUME_ACCESSIBILITY_CONSTRAINTS, because there is a topology", r, err)
	}
	if r, err := h.identity.Probe(t.Context(), &csi.ProbeRequest{}); err != nil || !r.GetReady().GetValue() {
		t.Errorf("Probe = %v, %v, want ready", r, err)
	}
	info, err := h.node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != "node-1" || info.GetMaxVolumesPerNode() != 0 {
		t.Errorf("NodeGetInfo = %v, %v", info, err)
	}
	if diff := cmp.Diff(map[string]string{"topology.keyvault-csi.io/ready": "true"}, info.GetAccessibleTopology().GetSegments()); diff != "" {
		t.Errorf("topology (-want +got):\n%s", diff)
	}

	caps, err := h.node.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range caps.GetCapabilities() {
		got = append(got, c.GetRpc().GetType().String())
	}
	if diff := cmp.Diff([]string{"GET_VOLUME_STATS", "GET_VOLUME_HEALTH", "VOLUME_MOUNT_GROUP"}, got); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}

	_, err = h.node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{})
	wantStatus(t, err, codes.Unimplemented, "method NodeStageVolume not implemented")
	_, err = h.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{})
	wantStatus(t, err, codes.Unimplemented, "method NodeExpandVolume not implemented")
}

func TestNodeGetCapabilitiesDoesNotAllocate(t *testing.T) {
	n := &nodeServer{capabilities: newCapabilities()}
	if allocs := testing.AllocsPerRun(100, func() {
		_, _ = n.NodeGetCapabilities(context.Background(), nil)
	}); allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}
