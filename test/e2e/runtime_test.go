package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// needs skips the test if the node's status does not have the feature of the container runtime.
func (e *env) needs(t *testing.T, feature string) {
	t.Helper()
	var node struct {
		Status struct {
			NodeInfo        struct{ ContainerRuntimeVersion string }
			RuntimeHandlers []struct {
				Name     string
				Features map[string]bool
			}
		}
	}
	if err := e.get(t.Context(), "/api/v1/nodes/"+e.node, &node); err != nil {
		t.Fatal(err)
	}
	for _, handler := range node.Status.RuntimeHandlers {
		if handler.Name == "" && handler.Features[feature] { // the default handler
			return
		}
	}
	text := fmt.Sprintf("%s on this node does not announce %s", node.Status.NodeInfo.ContainerRuntimeVersion, feature)
	if os.Getenv("E2E_RUNTIME") == "new" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// testUserNamespace: the runtime maps the ids of the volume's mount, so that the container's root, which has another uid on the node, can read
// root's files, and the fsGroup is the container's group.
func testUserNamespace(t *testing.T, e *env) {
	e.needs(t, "userNamespaces")
	v := e.newVault(t)
	v.set(t, "password", "at first")
	v.baseline(t)
	attributes := v.objects(`[{secret: password}, {secret: password, path: strict, mode: "0440"}]`)
	for _, test := range []struct {
		name  string
		pod   volume
		group int
		modes map[string]string
	}{
		{"root", volume{namespace: agentNamespace, root: true}, 0, map[string]string{"password": "-rw-r--r--", "strict": "-r--r-----"}},
		{"fsgroup", volume{fsGroup: 4242}, 4242, map[string]string{"password": "-rw-r-----", "strict": "-r--r-----"}},
	} {
		test.pod.userNamespace, test.pod.attributes = true, attributes
		p := e.run(t, "userns-"+test.name, test.pod)
		same := p.sameProcess(t)
		inside := p.inside(t)
		t.Logf("%s: %+v", test.name, inside)
		checkMounts(t, p)
		checkOptions(t, inside, "idmapped")
		for _, value := range []string{"at first", "rotated"} {
			if value == "rotated" {
				v.set(t, "password", value)
				p.awaitRotation(t, value)
			}
			files, err := p.files(t.Context(), mountPath)
			if err != nil {
				t.Fatal(err)
			}
			for name, mode := range test.modes {
				if got := files[name]; string(got.Data) != value || got.Mode != mode || got.UID != 0 || got.GID != test.group {
					t.Errorf("%s of %s is %s of %d:%d and holds %q, want %s of 0:%d and %q",
						name, p.name, got.Mode, got.UID, got.GID, got.Data, mode, test.group, value)
				}
			}
			p.wantReadOnly(t)
		}
		p.wantNoRemount(t)
		same()
		checkUnmounted(t, p)
		v.set(t, "password", "at first")
	}
}

// testRecursiveReadOnly: a pod can have a mount with read-only submounts.
func testRecursiveReadOnly(t *testing.T, e *env) {
	e.needs(t, "recursiveReadOnlyMounts")
	v := e.newVault(t)
	v.set(t, "password", "at first")
	p := e.run(t, "recursive", volume{readOnlyMount: true, recursive: true, attributes: v.objects("- secret: password")})
	eventually(t, "the kubelet's word for it", func(ctx context.Context) error {
		status, err := p.status(ctx)
		if err != nil {
			return err
		}
		containers := status.Status.ContainerStatuses
		if len(containers) != 1 || len(containers[0].VolumeMounts) != 1 || containers[0].VolumeMounts[0].RecursiveReadOnly != "Enabled" {
			return fmt.Errorf("the containers are %+v", containers)
		}
		return nil
	})
	t.Logf("%+v", p.inside(t))
	checkMounts(t, p)
	p.mustHold(t, mountPath+"/password", "at first")
	v.set(t, "password", "rotated")
	p.awaitRotation(t, "rotated")
	p.wantReadOnly(t)
}

// nodeInfo is the used part of a node's status.
type nodeInfo struct{ KubeletVersion, ContainerRuntimeVersion string }

func (e *env) nodeInfo(t *testing.T) nodeInfo {
	t.Helper()
	var node struct {
		Status struct{ NodeInfo nodeInfo }
	}
	if err := e.get(t.Context(), "/api/v1/nodes/"+e.node, &node); err != nil {
		t.Fatal(err)
	}
	return node.Status.NodeInfo
}

// needsKubelet skips the test if the kubelet is older than the minor version.
func (e *env) needsKubelet(t *testing.T, minor int) {
	t.Helper()
	got, info := 0, e.nodeInfo(t)
	if _, err := fmt.Sscanf(info.KubeletVersion, "v1.%d.", &got); err != nil || got < minor {
		t.Skipf("the kubelet is %s, and the test needs 1.%d", info.KubeletVersion, minor)
	}
}

// needsImageVolumes skips the test without a kubelet and a containerd that mount images. Other runtimes may mount them noexec.
func (e *env) needsImageVolumes(t *testing.T) {
	t.Helper()
	e.needsKubelet(t, 35)
	major, minor, info := 0, 0, e.nodeInfo(t)
	_, err := fmt.Sscanf(info.ContainerRuntimeVersion, "containerd://%d.%d.", &major, &minor)
	if err != nil || major < 2 || major == 2 && minor < 1 {
		t.Skipf("the container runtime is %s, and the test needs containerd 2.1", info.ContainerRuntimeVersion)
	}
}
