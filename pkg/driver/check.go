package driver

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// maxVolumeID is the CSI specification's limit on a string field; the kubelet's own ids have 68 bytes.
	maxVolumeID = 128
	// maxPath is the kernel's limit, PATH_MAX, without the byte that ends a path there.
	maxPath = 4095
)

// checkPublish is step 1: everything that the CSI fields must be, whatever the attributes say. The file system type and the
// access mode do not matter.
//
// A publish that is not read-only comes first: the kubelet asks the container runtime for a read-only mount only if the pod says
// so, and runtimes (runc since 1.2, crun since its change 2247) clear every mount flag that they were not asked for.
func (n *nodeServer) checkPublish(req *csi.NodePublishVolumeRequest) (volume.Mount, error) {
	capability := req.GetVolumeCapability()
	target, targetErr := n.below(req.GetTargetPath())
	group, groupErr := parseGroup(capability.GetMount().GetVolumeMountGroup())
	flags := capability.GetMount().GetMountFlags()
	ephemeral, said := req.GetVolumeContext()[volume.KubeletEphemeral]

	switch {
	case !req.GetReadonly() && !n.allowReadWrite:
		return volume.Mount{}, invalid("the volume is not read-only, and nothing may write to it; set readOnly: true under csi")
	case req.GetVolumeId() == "":
		return volume.Mount{}, invalid("volume_id is missing")
	case len(req.GetVolumeId()) > maxVolumeID:
		return volume.Mount{}, invalid("volume_id has %d bytes, more than the %d of the CSI specification", len(req.GetVolumeId()), maxVolumeID)
	case req.GetTargetPath() == "":
		return volume.Mount{}, invalid("target_path is missing")
	case capability == nil:
		return volume.Mount{}, invalid("volume_capability is missing")
	case capability.GetBlock() != nil:
		return volume.Mount{}, invalid("a block volume was asked for; this driver has file systems only")
	case capability.GetMount() == nil:
		return volume.Mount{}, invalid("volume_capability has no access type; this driver needs mount")
	case said && ephemeral != "true":
		return volume.Mount{}, invalid("a persistent volume was asked for; this driver has inline volumes of pods only")
	case targetErr != nil:
		return volume.Mount{}, invalid("target_path %w", targetErr)
	case groupErr != nil:
		return volume.Mount{}, groupErr
	case len(flags) > 0:
		return volume.Mount{}, invalid("mount flag %q is not supported; the driver sets all flags itself", flags[0])
	}
	return volume.Mount{Target: target, Group: group}, nil
}

func (n *nodeServer) checkUnpublish(req *csi.NodeUnpublishVolumeRequest) (target string, err error) {
	target, targetErr := n.below(req.GetTargetPath())
	switch {
	case req.GetVolumeId() == "":
		return "", invalid("volume_id is missing")
	case req.GetTargetPath() == "":
		return "", invalid("target_path is missing")
	case targetErr != nil:
		return "", invalid("target_path %w", targetErr)
	}
	return target, nil
}

// checkStats answers NotFound where no volume of this driver can be, as the specification wants it.
func (n *nodeServer) checkStats(req *csi.NodeGetVolumeStatsRequest) (path string, err error) {
	path, pathErr := n.below(req.GetVolumePath())
	switch {
	case req.GetVolumeId() == "":
		return "", invalid("volume_id is missing")
	case req.GetVolumePath() == "":
		return "", invalid("volume_path is missing")
	case pathErr != nil:
		return "", volume.Errorf(volume.ErrNotFound, "no volume is published: volume_path %w", pathErr)
	}
	return path, nil
}

// checkHealth needs no path: where the caller names one, a complete set must be there.
func (n *nodeServer) checkHealth(req *csi.NodeGetVolumeHealthRequest) error {
	path, pathErr := n.below(req.GetVolumePublishPath())
	switch {
	case req.GetVolumeId() == "":
		return invalid("volume_id is missing")
	case req.GetVolumePublishPath() == "":
		return nil
	case pathErr != nil:
		return volume.Errorf(volume.ErrNotFound, "no volume is published: volume_publish_path %w", pathErr)
	}
	_, err := n.store.Usage(path)
	return err
}

// below cleans a path and makes sure that it is below the kubelet's root. It judges the text alone: what a link on
// the way would do to a mount is the store's care.
func (n *nodeServer) below(path string) (string, error) {
	clean := filepath.Clean(path)
	switch {
	case len(path) > maxPath:
		return "", fmt.Errorf("has %d bytes, more than the %d of a path", len(path), maxPath)
	case strings.ContainsRune(path, 0):
		return "", fmt.Errorf("%q holds a NUL, which no path does", path)
	case !filepath.IsAbs(path):
		return "", fmt.Errorf("%q is not an absolute path", path)
	case !strings.HasPrefix(clean, n.root) || clean+"/" == n.root:
		return "", fmt.Errorf("%q is not below the kubelet's root %s (--kubelet-root)", clean, n.root)
	}
	return clean, nil
}

// parseGroup reads the pod's fsGroup. The largest number means "leave as it is" to the kernel, not a group.
func parseGroup(text string) (*uint32, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no group is a fact and not a failure
	}
	const none = 1<<32 - 1
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == none {
		return nil, invalid("volume_mount_group %q is not a group id", text)
	}
	group := uint32(id)
	return &group, nil
}

func invalid(format string, args ...any) error {
	return volume.Errorf(volume.ErrInvalid, format, args...)
}
