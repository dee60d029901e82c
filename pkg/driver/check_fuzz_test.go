package driver

import (
	"errors"
	"path"
	"strings"
	"testing"
	"unicode"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// FuzzTarget: a target path that passes is clean, absolute and below the kubelet's root as text; the text of a refusal
// is one line, of bounded length. The rest of the CSI fields are fuzzed beside it.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount", "/var/lib/kubelet", "/var/lib/kubelet/", "/var/lib/kubelet/..",
		"/var/lib/kubelet/../../../etc/x", "/var/lib/kubeletx/y", "/var/lib/kubelet/./pods//x/", "pods/x", "", "/", "//var/lib/kubelet/x",
		"/var/lib/kubelet/\x00", "/var/lib/kubelet/\x1b[31m\n", "/VAR/LIB/KUBELET/x", "/var/lib/kubelet\\..\\x", "/var/lib/kubelet/..data",
		"/proc/self/root/etc", "/var/lib/kubelet/%2e%2e/x", "/var/lib/kubelet/\u2025/x", "/var/lib/kubelet/" + strings.Repeat("a/", 3000),
		"/var/lib/kubelet/" + strings.Repeat("a", 300) + "/mount",
	} {
		f.Add("csi-1", target, "", "", "shop", "web-0")
		f.Add(strings.Repeat("v", 200), target, "4294967295", "ro", "a\nb", "\x1b[2J")
	}
	const root = "/var/lib/kubelet/"
	n := &nodeServer{root: root}
	f.Fuzz(func(t *testing.T, id, target, group, flag, namespace, pod string) {
		req := &csi.NodePublishVolumeRequest{
			Readonly:   true,
			VolumeId:   id,
			TargetPath: target,
			VolumeCapability: &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{
				Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: group},
			}},
			VolumeContext: map[string]string{volume.KubeletPodNamespace: namespace, volume.KubeletPodName: pod},
		}
		if flag != "" {
			req.GetVolumeCapability().GetMount().MountFlags = []string{flag}
		}
		for _, value := range logged(req) {
			if len(value) > 1<<10+4 {
				t.Errorf("%d bytes of a request would be logged", len(value))
			}
		}
		mount, err := n.checkPublish(req)
		if err != nil {
			text := toStatus(err).Error()
			if !errors.Is(err, volume.ErrInvalid) || strings.ContainsFunc(text, unicode.IsControl) || len(text) > 6<<10 {
				t.Errorf("%q", text)
			}
			return
		}
		if path.Clean(mount.Target) != mount.Target || !strings.HasPrefix(mount.Target, root) || len(mount.Target) <= len(root) {
			t.Errorf("%q became the target %q", target, mount.Target)
		}
		for component := range strings.SplitSeq(mount.Target, "/") {
			if component == ".." || component == "." {
				t.Errorf("%q became the target %q", target, mount.Target)
			}
		}
		if strings.ContainsAny(mount.Target, "\x00") || len(mount.Target) >= 4096 || len(id) > 128 {
			t.Errorf("no system call takes the target %.40q of volume %.40q", mount.Target, id)
		}
	})
}

// logged is the strings of a request that every line of its log would repeat.
func logged(req any) (texts []string) {
	values, _ := describe(req)
	for _, value := range cut(values) {
		if text, ok := value.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}
