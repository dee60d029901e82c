package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*fakeCluster)
		args   []string
		want   [][]string
		code   int
	}{
		"the namespace of the context": {nil, nil, shopRows(), 1},
		"in pages":                     {func(f *fakeCluster) { f.pageSize = 2 }, nil, shopRows(), 1},
		"by SPDY":                      {func(f *fakeCluster) { f.spdyOnly = true }, nil, shopRows(), 1},
		"another namespace": {nil, []string{"-n", "pay"}, [][]string{
			shopRows()[0], {"fresh-0", "secrets", "fresh", "5m", "a.crt ended 3h ago"},
		}, 0},
		"labels":  {nil, []string{"-l", "app=fresh"}, [][]string{shopRows()[0], shopRows()[3]}, 0},
		"pods":    {nil, []string{"old-0", "fresh-6c9f7b-x2x4z"}, [][]string{shopRows()[0], shopRows()[3], shopRows()[6]}, 1},
		"waiting": {func(f *fakeCluster) { f.pods = append(f.pods[:1], f.pods[7:]...) }, []string{"starting-0"}, [][]string{shopRows()[0], shopRows()[7]}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newShop(t)
			if tc.change != nil {
				tc.change(f)
			}
			code, stdout, stderr := kube(t, f.start(t), append([]string{"status"}, tc.args...)...)
			if diff := cmp.Diff(tc.want, rows(stdout)); diff != "" || code != tc.code || stderr != "" {
				t.Errorf("exit %d, want %d; stderr %q; stdout (-want +got):\n%s", code, tc.code, stderr, diff)
			}
			if bySPDY := slices.Contains(f.requests(), "create pods/portforward keyvault-csi"); bySPDY != f.spdyOnly {
				t.Errorf("SPDY is used: %v", bySPDY)
			}
		})
	}
}

func TestStatusOfAllNamespaces(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	code, stdout, stderr := kube(t, f.start(t), "status", "-A", "-o", "json")
	var answer struct {
		Volumes []volumeStatus
		Missing []string
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		t.Fatal(err, stdout, stderr)
	}
	var got []string
	for _, v := range answer.Volumes {
		got = append(got, v.Namespace+"/"+v.Pod+" "+v.State)
	}
	if code != 1 || stderr != "" || len(got) != 9 || got[0] != "pay/fresh-0 fresh" || *answer.Volumes[0].AgeSeconds != 300 || len(answer.Missing) != 0 {
		t.Errorf("exit %d, %q, %q", code, got, stderr)
	}
	for _, line := range f.requests() {
		if strings.Contains(line, "secrets") {
			t.Errorf("a Secret is asked for: %s", line)
		}
	}
}

// Without a right a part of the answer is missing, and one line names the right.
func TestStatusWithFewRights(t *testing.T) {
	t.Parallel()
	const forbidden = `forbidden: %s "%s" is forbidden: User "jane" cannot %s resource "%s" in API group "" in the namespace "%s"`
	const lost = "kubectl kvcsi status: no age, no refresh errors and no certificates are shown"
	without := func(rows [][]string) (less [][]string) {
		for _, row := range rows[1:] {
			switch state := row[2]; state {
			case "failed":
				less = append(less, row)
			case "waiting":
				if row[0] == "starting-0" {
					row = []string{row[0], "secrets", "unknown", "-", "-"}
				}
				less = append(less, row)
			default:
				less = append(less, []string{row[0], "secrets", "unknown", "-", "-"})
			}
		}
		return append([][]string{rows[0]}, less...)
	}
	noEvents := slices.Clone(shopRows())
	noEvents[1] = []string{"broken-0", "secrets", "unknown", "-", "-"}
	noEvents[7] = []string{"starting-0", "secrets", "unknown", "-", "-"}
	for name, tc := range map[string]struct {
		denied func(verb, what, ns string) bool
		change func(*fakeCluster)
		want   [][]string
		said   []string
		code   int
	}{
		"no events": {
			func(_, what, _ string) bool { return what == "events" }, nil, noEvents,
			[]string{"kubectl kvcsi status: no errors of mounts are shown: " + fmt.Sprintf(forbidden, "events", "", "list", "events", "shop")}, 1,
		},
		"no port-forward": {
			func(_, what, _ string) bool { return what == "pods/portforward" }, nil, without(shopRows()),
			[]string{lost + `: ports of the driver's pods cannot be forwarded (create and get on pods/portforward): forbidden: pods are forbidden: ` +
				`User "jane" cannot create resource "pods/portforward" in API group "" in the namespace "keyvault-csi"`}, 1,
		},
		"no pods of the driver": {
			func(_, what, ns string) bool { return what == "pods" && ns != "shop" }, nil, without(shopRows()),
			[]string{lost + ": " + fmt.Sprintf(forbidden, "pods", "", "list", "pods", "keyvault-csi") + "; --driver-namespace names another one"}, 1,
		},
		"pods of two namespaces": {
			func(_, what, ns string) bool { return what == "pods" && ns == "" }, nil, shopRows(), nil, 1,
		},
		"no driver": {
			nil, func(f *fakeCluster) { f.pods = f.pods[2:] }, without(shopRows()),
			[]string{lost + ": there is no privileged pod of the driver keyvault-csi.io in any namespace (label app.kubernetes.io/component=csi-driver); " +
				"is it installed, and are --driver and --driver-namespace right?"}, 1,
		},
		"no driver on a node": {
			nil, func(f *fakeCluster) { f.pods, f.events = append(f.pods[:1], f.pods[3]), nil },
			[][]string{shopRows()[0], {"old-0", "secrets", "unknown", "-", "-"}},
			[]string{lost + " of the node n2: no pod of the driver is there"}, 0,
		},
		"a driver that does not listen": {
			nil, func(f *fakeCluster) { f.pods = f.pods[:3]; delete(f.ports, "keyvault-csi/driver-1") },
			[][]string{shopRows()[0], {"fresh-6c9f7b-x2x4z", "secrets", "unknown", "-", "-"}},
			[]string{lost + " of the node n1: the driver there does not answer: forward a port: dial tcp4 127.0.0.1:9808: connect: connection refused"}, 0,
		},
		"an older driver": {
			nil, func(f *fakeCluster) { f.pods = f.pods[:3]; f.ports["keyvault-csi/driver-1"] = http.NotFoundHandler() },
			[][]string{shopRows()[0], {"fresh-6c9f7b-x2x4z", "secrets", "unknown", "-", "-"}},
			[]string{lost + " of the node n1: the driver there does not answer: it is of a version that has no /volumes; upgrade it"}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newShop(t)
			f.denied = tc.denied
			if tc.change != nil {
				tc.change(f)
			}
			code, stdout, stderr := kube(t, f.start(t), "status")
			var said []string
			for line := range strings.Lines(stderr) {
				said = append(said, strings.TrimSuffix(line, "\n"))
			}
			if diff := cmp.Diff(tc.want, rows(stdout)); diff != "" || code != tc.code {
				t.Errorf("exit %d, want %d; stdout (-want +got):\n%s", code, tc.code, diff)
			}
			if diff := cmp.Diff(tc.said, said); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
		})
	}
}

// A second driver is found by its name.
func TestStatusOfAnotherDriver(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	f.pods = append(f.pods, driverPod("second", "n1", "--driver-name=second.example.com"),
		appPod("shop", "two-0", "n1", "Running", csiVolume("s", "second.example.com", nil)))
	f.ports["keyvault-csi/second"] = listens(t, listed("two-0", "s", object{"fetched": before(time.Minute)}))
	code, stdout, stderr := kube(t, f.start(t), "status", "--driver", "second.example.com")
	if diff := cmp.Diff([][]string{shopRows()[0], {"two-0", "s", "fresh", "60s", "-"}}, rows(stdout)); diff != "" || code != 0 || stderr != "" {
		t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr, diff)
	}
}

// What is wrong with a call or a cluster is one line that says what to do.
func TestKubeErrors(t *testing.T) {
	t.Parallel()
	config := newShop(t).start(t)
	locked := newShop(t)
	locked.denied = func(_, what, _ string) bool { return what == "pods" }
	nobody := writeKubeconfig(t, "https://127.0.0.1:1", nil)
	noPlugin := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(noPlugin, []byte(`{clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], current-context: x,
  contexts: [{name: x, context: {cluster: c, user: u}}],
  users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-login, interactiveMode: Never}}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kubeconfig string
		args       []string
		code       int
		want       string
	}{
		"no kubeconfig": {t.TempDir() + "/none", []string{"status"}, 1, "kubectl kvcsi status: the kubeconfig cannot be used: stat "},
		"no context":    {config, []string{"status", "--context", "x"}, 1, `kubectl kvcsi status: the kubeconfig cannot be used: context "x" does not exist` + "\n"},
		"no cluster":    {nobody, []string{"status"}, 1, "kubectl kvcsi status: the pods cannot be listed: the API server https://127.0.0.1:1 does not answer: dial tcp 127.0.0.1:1: connect: connection refused; kubectl config current-context says which cluster is asked\n"},
		"no login":      {config, []string{"status", "--token", "x"}, 1, "kubectl kvcsi status: the pods cannot be listed: the API server https://127.0.0.1"},
		"no plugin":     {noPlugin, []string{"status"}, 1, "kubectl kvcsi status: the pods cannot be listed: the login at the API server https://127.0.0.1:1 fails: getting credentials: exec: executable no-such-login not found It looks like "},
		"no right":      {locked.start(t), []string{"status"}, 1, `kubectl kvcsi status: the pods cannot be listed: forbidden: pods "" is forbidden: User "jane" cannot list`},
		"no pod":        {config, []string{"explain", "freshx"}, 1, "kubectl kvcsi explain: there is no pod freshx in the namespace shop; there are fresh-6c9f7b-x2x4z, old-0, failing-0\n"},
		"a pod of another ReplicaSet": {
			config, []string{"status", "fresh-77f7b-abcde"}, 1,
			"kubectl kvcsi status: there is no pod fresh-77f7b-abcde in the namespace shop; there are fresh-6c9f7b-x2x4z\n",
		},
		"an empty namespace": {config, []string{"explain", "web", "-n", "void"}, 1, "kubectl kvcsi explain: there is no pod web in the namespace void, and none with a volume of keyvault-csi.io; -n NAMESPACE names another\n"},
		"not our volume":     {config, []string{"explain", "without-0"}, 1, "kubectl kvcsi explain: the pod shop/without-0 has no volume of keyvault-csi.io; it has volumes of csi.example.com (--driver)\n"},
		"status of the same": {config, []string{"status", "without-0"}, 1, "kubectl kvcsi status: the pod shop/without-0 has no volume of keyvault-csi.io; it has volumes of csi.example.com (--driver)\n"},
		"nothing there":      {config, []string{"status", "-n", "void"}, 0, "kubectl kvcsi status: no pod has a volume of keyvault-csi.io in the namespace void (-A for all)\n"},
		"no such flag":       {config, []string{"status", "--al"}, 2, "kubectl kvcsi status: unknown flag: --al; see kubectl kvcsi status --help\n"},
		"format":             {config, []string{"status", "-o", "yaml"}, 2, "kubectl kvcsi status: --output is table or json, not \"yaml\"\n"},
		"all of one":         {config, []string{"status", "-A", "x"}, 2, "kubectl kvcsi status: names of pods are of one namespace; leave out --all-namespaces\n"},
		"selected names":     {config, []string{"status", "-l", "a=b", "x"}, 2, "kubectl kvcsi status: give names of pods or --selector\n"},
		"explain nothing":    {config, []string{"explain"}, 2, "kubectl kvcsi explain: name one pod: kubectl kvcsi explain POD\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := kube(t, tc.kubeconfig, tc.args...)
			if code != tc.code || stdout != "" || !strings.HasPrefix(stderr, tc.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit %d, want %d; stdout %q; stderr\n%s\nwant\n%s", code, tc.code, stdout, stderr, tc.want)
			}
		})
	}
}

// An event counts for the pod of its own namespace only: everyone who may create events can write the UID of any pod into one.
func TestEventsOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	f.events = []object{failedMount("tenant", "starting-0", "secrets", "a lie", now())}
	_, stdout, stderr := kube(t, f.start(t), "status", "-A")
	if strings.Contains(stdout, "a lie") || stderr != "" {
		t.Errorf("%s\n%s", stderr, stdout)
	}
}

// After ten errors of a pod that differ, the kubelet puts words of its own before the next ones.
func TestCombinedEvents(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	for _, e := range f.events {
		e["message"] = "(combined from similar events): " + e["message"].(string)
	}
	code, stdout, stderr := kube(t, f.start(t), "status")
	if diff := cmp.Diff(shopRows(), rows(stdout)); diff != "" || code != 1 || stderr != "" {
		t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr, diff)
	}
}

// A pod that ends or has ended has no volumes for the driver to see.
func TestStatusOfPodsThatEnd(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	ending := appPod("shop", "ending-0", "n1", "Running", secretsVolume())
	metadata(ending)["deletionTimestamp"] = now()
	f.pods = append(f.pods, ending)
	code, stdout, stderr := kube(t, f.start(t), "status", "done-0", "ending-0")
	want := [][]string{
		shopRows()[0], {"done-0", "secrets", "waiting", "-", "-", "the pod ends or has ended"}, {"ending-0", "secrets", "waiting", "-", "-", "the pod ends or has ended"},
	}
	if diff := cmp.Diff(want, rows(stdout)); diff != "" || code != 0 || stderr != "" {
		t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr, diff)
	}
}

// The program calls itself what the user has typed.
func TestProgramName(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/usr/bin/kvcsi": "kvcsi", "kubectl-kvcsi": "kubectl kvcsi", "/x/kubectl_kvcsi": "kubectl kvcsi",
		"/home/u/.krew/bin/kubectl-kvcsi": "kubectl kvcsi", "kubectl_kvcsi-linux_amd64": "kubectl kvcsi", "kubectl": "kvcsi",
	} {
		if got := programName(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
