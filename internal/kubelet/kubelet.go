// Package kubelet simulates the kubelet for a CSI node driver: it makes the calls of a real one for an inline volume of a
// pod, and creates and removes the folders around the volume as a real one does.
//
// The demo, the tests and the benchmarks use it. The calls are those of Kubernetes 1.35 (pkg/volume/csi); the end-to-end
// test uses a real kubelet.
package kubelet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"k8s.io/mount-utils"
)

// The keys that the kubelet adds to the attributes of a user.
const (
	keyPodName        = "csi.storage.k8s.io/pod.name"
	keyPodNamespace   = "csi.storage.k8s.io/pod.namespace"
	keyPodUID         = "csi.storage.k8s.io/pod.uid"
	keyServiceAccount = "csi.storage.k8s.io/serviceAccount.name"
	keyEphemeral      = "csi.storage.k8s.io/ephemeral"
	keyTokens         = "csi.storage.k8s.io/serviceAccount.tokens" //nolint:gosec // G101: a key, no credential
)

// Audience is the audience of service account tokens for Entra ID in the public cloud.
const Audience = "api://AzureADTokenExchange"

// Kubelet is the kubelet of one node.
type Kubelet struct {
	Root   string // of its folders, /var/lib/kubelet on a real node
	Driver csi.NodeClient

	// Audience of the service account tokens that the CSIDriver object asks for; empty means [Audience].
	Audience string
	// Token returns a service account token with the audience, as the API server does.
	Token func(ctx context.Context, v Volume) (string, error)
}

// Volume is an inline CSI volume in a pod spec, and the pod around it.
type Volume struct {
	Name           string // of the volume; the pod's name and UID follow from it
	Recreated      int    // number of earlier pods with this name; the UID depends on it
	Namespace      string
	ServiceAccount string
	Attributes     map[string]string // volumeAttributes
	Secret         map[string]string // data of the nodePublishSecretRef
	FSGroup        string            // of the pod's security context; empty if it has none

	// Writable omits readOnly.
	Writable bool
	// TokenInContext passes the token in the volume context instead of the secrets, as before Kubernetes 1.35.
	TokenInContext bool
	// NoToken omits the token, as for a CSIDriver object without tokenRequests. NoPodInfo omits the pod, as without
	// podInfoOnMount.
	NoToken, NoPodInfo bool
}

// PodName is the name of the pod around the volume.
func (v Volume) PodName() string { return v.Name + "-0" }

// PodUID depends only on the volume, so that the same volume always has the same target.
func (v Volume) PodUID() string {
	name := v.Namespace + "/" + v.Name
	if v.Recreated > 0 {
		name += fmt.Sprint(" ", v.Recreated)
	}
	h := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// ID is the id of the volume, which the kubelet derives from pod and volume.
func (v Volume) ID() string {
	h := sha256.Sum256([]byte(v.PodUID() + v.Name))
	return "csi-" + hex.EncodeToString(h[:])
}

// PodDir is the kubelet's folder for the pod.
func (k *Kubelet) PodDir(v Volume) string { return filepath.Join(k.Root, "pods", v.PodUID()) }

// Target is the path at which the driver mounts the volume.
func (k *Kubelet) Target(v Volume) string {
	return filepath.Join(k.PodDir(v), "volumes", "kubernetes.io~csi", v.Name, "mount")
}

// Request is the NodePublishVolume call for the volume.
func (k *Kubelet) Request(ctx context.Context, v Volume) (*csi.NodePublishVolumeRequest, error) {
	// The kubelet's own keys replace those of the user, so that no pod can pretend to be another.
	volumeContext := map[string]string{}
	maps.Copy(volumeContext, v.Attributes)
	if !v.NoPodInfo {
		maps.Copy(volumeContext, map[string]string{
			keyPodName:        v.PodName(),
			keyPodNamespace:   v.Namespace,
			keyPodUID:         v.PodUID(),
			keyServiceAccount: v.ServiceAccount,
			keyEphemeral:      "true",
		})
	}
	secrets := map[string]string{}
	maps.Copy(secrets, v.Secret)
	if !v.NoToken {
		tokens, err := k.tokens(ctx, v)
		switch {
		case err != nil:
			return nil, err
		case v.TokenInContext:
			volumeContext[keyTokens] = tokens
		default:
			secrets[keyTokens] = tokens
		}
	}
	return &csi.NodePublishVolumeRequest{
		VolumeId:      v.ID(),
		TargetPath:    k.Target(v),
		VolumeContext: volumeContext,
		Readonly:      !v.Writable,
		Secrets:       secrets,
		VolumeCapability: &csi.VolumeCapability{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: v.FSGroup}},
		},
	}, nil
}

func (k *Kubelet) tokens(ctx context.Context, v Volume) (string, error) {
	token, err := k.Token(ctx, v)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{cmp.Or(k.Audience, Audience): map[string]string{
		"token":               token,
		"expirationTimestamp": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}})
	return string(text), err
}

// Publish mounts the volume, or refreshes it if it exists: it makes the folder of the target, then calls the driver.
func (k *Kubelet) Publish(ctx context.Context, v Volume) error {
	request, err := k.Request(ctx, v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(request.GetTargetPath()), 0o750); err != nil {
		return err
	}
	_, err = k.Driver.NodePublishVolume(ctx, request)
	return err
}

// Unpublish calls the driver and then removes the pod's folder. It fails if anything is left there.
func (k *Kubelet) Unpublish(ctx context.Context, v Volume) error {
	target := k.Target(v)
	if _, err := k.Driver.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.ID(), TargetPath: target}); err != nil {
		return err
	}
	// The same check as in the kubelet, which keeps the folder of a mounted volume.
	mounted, err := (&mount.Mounter{}).IsMountPoint(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if mounted {
		return fmt.Errorf("the driver has unpublished %s, which is still a mount point", target)
	}
	for dir := filepath.Dir(target); dir != filepath.Join(k.Root, "pods"); dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Mount is one line of the mount table.
type Mount struct {
	Target, Type string
	Options      []string // of this mount: ro, nosuid, …
	Super        []string // of the file system: size=…, …
}

// Mounts returns the mounts below the folder root.
func Mounts(root string) ([]Mount, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
	if err != nil {
		return nil, err
	}
	mounts := make([]Mount, 0, len(infos))
	for _, i := range infos {
		mounts = append(mounts, Mount{i.Mountpoint, i.FSType, strings.Split(i.Options, ","), strings.Split(i.VFSOptions, ",")})
	}
	return mounts, nil
}
