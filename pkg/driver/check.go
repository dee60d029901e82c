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
	maxVolumeID = 128  // the CSI specification's limit of a string; the kubelet's ids have 68 bytes
	maxPath     = 4095 // PATH_MAX without the terminating NUL
)

// checkPublish is step 1. It checks the CSI fields except the file system type and the access mode, which do not matter.
//
// Read-only comes first: the kubelet asks the container runtime for a read-only mount only if the pod says so, and runtimes
// (runc since 1.2, crun since its change 2247) clear every mount flag that they are not asked for.
func (n *nodeServer) checkPublish(req *csi.NodePublishVolumeRequest) (mount volume.Mount, err error) {
	capability := req.GetVolumeCapability()
	missing := checkPresent(req.GetVolumeId(), "target_path", req.GetTargetPath())
	target, targetErr := n.below(req.GetTargetPath())
	group, groupErr := parseGroup(capability.GetMount().GetVolumeMountGroup())
	flags := capability.GetMount().GetMountFlags()
	ephemeral, given := req.GetVolumeContext()[volume.KubeletEphemeral]

	switch {
	case !req.GetReadonly() && !n.config.AllowReadWrite:
		err = invalid("the volume is not read-only, and nothing may write to it; set readOnly: true under csi")
	case len(req.GetVolumeId()) > maxVolumeID:
		err = invalid("volume_id has %d bytes, more than the %d of the CSI specification", len(req.GetVolumeId()), maxVolumeID)
	case missing != nil:
		err = missing
	case capability == nil:
		err = invalid("volume_capability is missing")
	case capability.GetBlock() != nil:
		err = invalid("a block volume was asked for; this driver has file systems only")
	case capability.GetMount() == nil:
		err = invalid("volume_capability has no access type; this driver needs mount")
	case given && ephemeral != "true":
		err = invalid("a persistent volume was asked for; this driver has inline volumes of pods only")
	case targetErr != nil:
		err = invalid("target_path %w", targetErr)
	case groupErr != nil:
		err = groupErr
	case len(flags) > 0:
		err = invalid("mount flag %q is not supported; the driver sets all flags itself", flags[0])
	}
	return volume.Mount{Target: target, Group: group}, err
}

func (n *nodeServer) checkUnpublish(req *csi.NodeUnpublishVolumeRequest) (target string, err error) {
	if err := checkPresent(req.GetVolumeId(), "target_path", req.GetTargetPath()); err != nil {
		return "", err
	}
	if target, err = n.below(req.GetTargetPath()); err != nil {
		return "", invalid("target_path %w", err)
	}
	return target, nil
}

// checkPresent checks the two fields that a call about a volume must have.
func checkPresent(volumeID, field, path string) error {
	switch {
	case volumeID == "":
		return invalid("volume_id is missing")
	case path == "":
		return invalid("%s is missing", field)
	}
	return nil
}

// usage measures the volume at a path. The CSI specification wants NotFound where no volume can be.
func (n *nodeServer) usage(volumeID, field, path string) (volume.Usage, error) {
	if err := checkPresent(volumeID, field, path); err != nil {
		return volume.Usage{}, err
	}
	target, err := n.below(path)
	if err != nil {
		return volume.Usage{}, volume.Errorf(volume.ErrNotFound, "no volume is published: %s %w", field, err)
	}
	return n.config.Store.Usage(target)
}

// below cleans a path and checks that it is below the kubelet's root. It compares text; the store handles symlinks.
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

// parseGroup reads the pod's fsGroup. 4294967295 means "no change" to the kernel, not a group.
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
