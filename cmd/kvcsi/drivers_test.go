package main

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// liar is a pod with the labels and flags of the driver, in a namespace of a tenant.
func liar(f *fakeCluster, privileged bool) {
	pod := driverPod("liar", "n2", "--policy-file=/etc/keyvault-csi/policy/policy.yaml")
	metadata(pod)["namespace"] = "tenant"
	pod["spec"].(object)["containers"].([]object)[0]["securityContext"] = object{"privileged": privileged}
	f.pods = append(f.pods, pod)
	f.configMaps["tenant/rules/policy.yaml"] = "rules: []\n"
	f.ports["tenant/liar"] = http.NotFoundHandler()
}

// A tenant can copy the labels and flags of the driver, so a pod without its privileges is not asked and not believed.
func TestAPodThatIsNotTheDriver(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	liar(f, false)
	config := f.start(t)
	code, stdout, stderr := kube(t, config, "status")
	if diff := cmp.Diff(shopRows(), rows(stdout)); diff != "" || code != 1 || stderr != "" {
		t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr, diff)
	}
	code, stdout, stderr = kube(t, config, "explain", "old-0")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "policy    of the ConfigMap keyvault-csi/rules") {
		t.Errorf("exit %d, %q\n%s", code, stderr, stdout)
	}
	for _, line := range f.requests() {
		if strings.HasSuffix(line, " tenant") {
			t.Errorf("the tenant's pod is believed: %s", line)
		}
	}
}

// One driver has one namespace. If there are two, the user says which one counts.
func TestDriversOfTwoNamespaces(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	liar(f, true)
	config := f.start(t)
	const said = "privileged pods of the driver keyvault-csi.io are in the namespaces keyvault-csi and tenant; name the right one with --driver-namespace\n"
	if code, stdout, stderr := kube(t, config, "status", "old-0"); code != 0 || !strings.HasSuffix(stderr, said) || !strings.Contains(stdout, "unknown") {
		t.Errorf("exit %d, %q\n%s", code, stderr, stdout)
	}
	code, stdout, stderr := kube(t, config, "status", "--driver-namespace", "keyvault-csi")
	if diff := cmp.Diff(shopRows(), rows(stdout)); diff != "" || code != 1 || stderr != "" {
		t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr, diff)
	}
}

// While a driver is replaced, a node can have two of its pods. The one that stays is asked.
func TestTwoDriversOfANode(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]object{
		"it is deleted": {"deletionTimestamp": now(), "creationTimestamp": now().Add(time.Hour)},
		"it is older":   {"creationTimestamp": now().Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newShop(t)
			for _, name := range []string{"before", "after"} { // the pods come in any order
				pod := driverPod(name, "n2")
				maps.Copy(metadata(pod), old)
				f.ports["keyvault-csi/"+name] = listens(t)
				f.pods = append(f.pods, pod)
			}
			f.pods[1], f.pods[len(f.pods)-1] = f.pods[len(f.pods)-1], f.pods[1]
			code, stdout, stderr := kube(t, f.start(t), "status")
			if diff := cmp.Diff(shopRows(), rows(stdout)); diff != "" || code != 1 || stderr != "" {
				t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr, diff)
			}
		})
	}
}

// A pod on a node without a driver is explained with the settings of another node, and a line says so.
func TestExplainWithTheDriverOfAnotherNode(t *testing.T) {
	t.Parallel()
	for pod, why := range map[string]string{
		"old-0":      "no pod of the driver is on the node n2",
		"homeless-0": "the pod has no node yet",
	} {
		f := newShop(t)
		f.pods[1] = driverPod("not-scheduled", "")
		code, stdout, stderr := kube(t, f.start(t), "explain", pod)
		want := "kubectl kvcsi explain: the flags and the policy are those of the driver on the node n1: " + why + "\n"
		if code != 0 || stderr != want || !strings.Contains(stdout, ": allowed: rules[0]") {
			t.Errorf("%s: exit %d, %q, want %q\n%s", pod, code, stderr, want, stdout)
		}
	}
}
