package crash_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// Only a mount with a complete set is a published volume. The Secrets Store CSI Driver, killed between mounting and writing, answers
// the kubelet's retry with OK because something is mounted, and the pod starts without its secrets.
func TestMountedButNotPublished(t *testing.T) {
	t.Parallel()
	const set = "..2026_11_23_02_20_12.000000000"
	states := map[string]func(t *testing.T, target string){
		"a bare tmpfs": mountTmpfs,
		"the folder of a set": func(t *testing.T, target string) {
			mountTmpfs(t, target)
			makeFolder(t, filepath.Join(target, set, "folder0"))
		},
		"links without a set": func(t *testing.T, target string) {
			mountTmpfs(t, target)
			symlink(t, "..data/folder0", filepath.Join(target, "folder0"))
		},
		"all but ..data": func(t *testing.T, target string) {
			mountTmpfs(t, target)
			makeFolder(t, filepath.Join(target, set, "folder0"))
			symlink(t, "..data/folder0", filepath.Join(target, "folder0"))
			symlink(t, set, filepath.Join(target, "..data_tmp"))
		},
		"..data that names nothing": func(t *testing.T, target string) {
			mountTmpfs(t, target)
			symlink(t, set, filepath.Join(target, "..data"))
			symlink(t, "..data/folder0", filepath.Join(target, "folder0"))
		},
	}
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}})
	warm := newPod(n, "warm", 3, 100)
	publish(t, n, warm)
	unpublish(t, n, warm)
	before := n.AtRest(t)
	for name, makeState := range states {
		p := newPod(n, "pod", 3, 100)
		target := n.Target(p.Volume)
		makeFolder(t, target)
		makeState(t, target)
		// With the mount flags of a volume; the driver refuses a tmpfs with others as foreign.
		const flags = unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount("", target, "", flags, ""); err != nil {
			t.Fatal(err)
		}
		if err := stats(t, n, p); status.Code(err) != codes.NotFound {
			t.Errorf("%s: NodeGetVolumeStats: %v, want NotFound", name, err)
		}
		// While the vault fails, it must not count as a volume.
		clear, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Fail, Status: 500, Service: devcloud.ServiceVault})
		if err != nil {
			t.Fatal(err)
		}
		unknown := p.Volume
		unknown.Attributes = map[string]string{"vault": node.VaultURL, "clientID": node.WorkloadID, "objects": "- secret: none-of-" + strings.ReplaceAll(name, " ", "-")}
		if err := n.Publish(t.Context(), unknown); err == nil {
			t.Errorf("%s: counts as a volume", name)
		}
		clear()
		if err := n.Publish(t.Context(), p.Volume); err != nil {
			t.Errorf("%s: the next publish: %v", name, err)
		} else if err := p.current(n); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		unpublish(t, n, p)
	}
	n.AwaitRest(t, before)
	logVerdict(t, "mounted but not published: %d kinds of a mount without a set, none answered with OK, each repaired by the next publish", len(states))
}

func stats(t *testing.T, n *node.Node, p *pod) error {
	t.Helper()
	_, err := n.Driver.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: p.ID(), VolumePath: n.Target(p.Volume)})
	return err
}

// mountTmpfs mounts a foreign tmpfs. The node's Close unmounts it if the test does not.
func mountTmpfs(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mount("foreign", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
}

func makeFolder(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o750); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string) {
	t.Helper()
	makeFolder(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func precious(t *testing.T, path string) {
	t.Helper()
	if data, err := os.ReadFile(path); string(data) != "precious" {
		t.Errorf("somebody's file is gone: %q, %v", data, err)
	}
}

// fails checks the code and the whole text of an error.
func fails(t *testing.T, err error, code codes.Code, format string, args ...any) {
	t.Helper()
	if want := fmt.Sprintf(format, args...); status.Code(err) != code || status.Convert(err).Message() != want {
		t.Errorf("\n got %s: %s\nwant %s: %s", status.Code(err), status.Convert(err).Message(), code, want)
	}
}
