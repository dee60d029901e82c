package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

const (
	namespace       = "keyvault-csi-e2e"       // of the pods with volumes; restricted
	otherNamespace  = "keyvault-csi-e2e-other" // with the same service accounts; restricted
	agentNamespace  = "keyvault-csi-e2e-agent" // of migrated pods; baseline
	systemNamespace = "keyvault-csi-e2e-cloud" // of the dev cloud and the node's agent; privileged
	driverNamespace = "keyvault-csi"
	release         = "keyvault-csi"
	driverName      = "keyvault-csi.io"
	chart           = "../../charts/keyvault-csi"
	tenant          = "0b3c5a40-9d8e-4d6f-8a3f-5a1de3f0c001"
)

// env is the shared environment: a cluster with the driver, the dev cloud and an agent on one node.
type env struct {
	*cluster
	hostname    string // label of the node of all pods
	node        string // its name
	kubeletRoot string
	driverImage string
	testImage   string
	kvrunImage  string
	syncImage   string // of keyvault-csi-sync
	issuer      string // of the cluster's service account tokens
	dir         string // for files of this run
	helmValues  []string
}

// setUp prepares the cluster without the driver.
func setUp(t testing.TB) *env {
	t.Helper()
	e := &env{
		driverImage: os.Getenv("E2E_DRIVER_IMAGE"),
		testImage:   os.Getenv("E2E_TEST_IMAGE"),
		kvrunImage:  os.Getenv("E2E_KVRUN_IMAGE"),
		syncImage:   os.Getenv("E2E_SYNC_IMAGE"),
		kubeletRoot: "/var/lib/kubelet",
		dir:         t.TempDir(),
	}
	if root := os.Getenv("E2E_KUBELET_ROOT"); root != "" {
		e.kubeletRoot = root
	}
	if e.driverImage == "" {
		t.Skip("needs a cluster and images, which make e2e gives")
	}
	e.cluster = connect(t)
	e.chooseNode(t)
	t.Cleanup(func() {
		// After a failed test print a report, and always clean up.
		if t.Failed() {
			e.report(t)
		}
		deleteNamespaces(t)
	})
	deleteNamespaces(t) // of an interrupted run
	for name, level := range map[string]string{
		namespace: "restricted", otherNamespace: "restricted", agentNamespace: "baseline",
		systemNamespace: "privileged", driverNamespace: "privileged",
	} {
		apply(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q, "labels": {"pod-security.kubernetes.io/enforce": %q}}}`, name, level))
	}
	for _, account := range [][2]string{{namespace, "web"}, {namespace, "stranger"}, {otherNamespace, "web"}, {agentNamespace, "web"}} {
		apply(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": %q, "name": %q}}`, account[0], account[1]))
	}
	e.startSystemPods(t)
	e.trustIssuer(t)
	e.replaceOnNode(t, clusterFile, "{}") // its folder must exist before the driver
	t.Cleanup(func() {
		err := e.onNode(context.Background(), http.MethodPost, "/remove", url.Values{"dir": {path.Dir(clusterFile)}}, new(string))
		if err != nil {
			t.Error(err)
		}
	})
	return e
}

func deleteNamespaces(t testing.TB) {
	t.Helper()
	_, err := try(context.Background(), "", "kubectl", "delete", "namespace", namespace, otherNamespace, agentNamespace, systemNamespace,
		"--ignore-not-found", "--timeout=2m")
	if err != nil {
		t.Error(err)
	}
}

func (e *env) chooseNode(t testing.TB) {
	t.Helper()
	var nodes struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
			Spec struct{ Taints []object }
		}
	}
	if err := e.get(t.Context(), "/api/v1/nodes", &nodes); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes.Items {
		if len(node.Spec.Taints) == 0 && node.Metadata.Labels["kubernetes.io/os"] == "linux" {
			e.node, e.hostname = node.Metadata.Name, node.Metadata.Labels["kubernetes.io/hostname"]
			return
		}
	}
	t.Fatal("no Linux node without taints")
}

// startSystemPods starts the dev cloud, and on the node the agent for mounts, folders and processes.
func (e *env) startSystemPods(t testing.TB) {
	t.Helper()
	for name, spec := range map[string]object{
		"cloud": {"containers": []object{{
			"name": "cloud", "image": e.testImage, "command": []string{"/kvcsi"},
			"args": []string{
				"dev-cloud", "--empty", "--dir=/tmp/cloud", "--listen=0.0.0.0:8443",
				"--proxy-listen=0.0.0.0:8080", "--admin-listen=0.0.0.0:8081", "--imds-listen=0.0.0.0:8082",
			},
			"readinessProbe": object{"httpGet": object{"path": "/", "port": 8081}, "periodSeconds": 1},
		}}},
		"node": {"hostPID": true, "nodeSelector": object{"kubernetes.io/hostname": e.hostname}, "containers": []object{{
			"name": "node", "image": e.testImage, "args": []string{"node"}, "securityContext": object{"privileged": true},
			"volumeMounts": []object{{"name": "kubelet", "mountPath": e.kubeletRoot, "mountPropagation": "HostToContainer"}},
		}}, "volumes": []object{{"name": "kubelet", "hostPath": object{"path": e.kubeletRoot}}}},
	} {
		spec["terminationGracePeriodSeconds"] = 0
		spec["automountServiceAccountToken"] = false
		manifest, err := json.Marshal(object{
			"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name, "namespace": systemNamespace}, "spec": spec,
		})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, string(manifest))
	}
	run(t, "kubectl", "wait", "--namespace", systemNamespace, "--for=condition=Ready", "pod", "--all", "--timeout=3m")
}

// trustIssuer configures the cluster's issuer and keys in the dev cloud, like an administrator in Entra ID.
func (e *env) trustIssuer(t testing.TB) {
	t.Helper()
	var configuration struct{ Issuer string }
	if err := e.get(t.Context(), "/.well-known/openid-configuration", &configuration); err != nil {
		t.Fatal(err)
	}
	var keys json.RawMessage
	if err := e.get(t.Context(), "/openid/v1/jwks", &keys); err != nil {
		t.Fatal(err)
	}
	e.issuer = configuration.Issuer
	e.admin(t, "/issuers", object{"url": e.issuer, "jwks": keys})
}

// admin calls the admin API of the dev cloud.
func (e *env) admin(t testing.TB, what string, in object) {
	t.Helper()
	if err := e.adminCall(t.Context(), http.MethodPost, what, in, nil); err != nil {
		t.Fatal(err)
	}
}

func (e *env) adminCall(ctx context.Context, method, what string, in, out any) error {
	return e.call(ctx, method, "/api/v1/namespaces/"+systemNamespace+"/pods/cloud:8081/proxy"+what, in, out)
}

// onNode calls the agent on the node.
func (e *env) onNode(ctx context.Context, method, what string, query url.Values, out any) error {
	return e.call(ctx, method, "/api/v1/namespaces/"+systemNamespace+"/pods/node:8080/proxy"+what+"?"+query.Encode(), nil, out)
}

// replaceOnNode replaces a file of the node by a rename.
func (e *env) replaceOnNode(t testing.TB, file, content string) {
	t.Helper()
	what := "/api/v1/namespaces/" + systemNamespace + "/pods/node:8080/proxy/replace?file=" + url.QueryEscape(file)
	if err := e.call(t.Context(), http.MethodPost, what, content, new(string)); err != nil {
		t.Fatal(err)
	}
}

// podFolder is the kubelet's folder of a pod.
func (p *pod) podFolder() string { return path.Join(p.kubeletRoot, "pods", p.uid) }

// target is the path of the pod's volume.
func (p *pod) target() string {
	return path.Join(p.podFolder(), "volumes/kubernetes.io~csi/secrets/mount")
}

// mounts returns the node's mounts of the pod's volume, without subPaths.
func (p *pod) mounts(ctx context.Context) (mounts []mountinfo.Info, err error) {
	err = p.onNode(ctx, http.MethodGet, "/mounts", url.Values{"dir": {p.target()}}, &mounts)
	return mounts, err
}

// age makes the pod's files older, so that the next republish fetches, or returns an error.
func (p *pod) age(t testing.TB, age time.Duration) {
	t.Helper()
	query := url.Values{"target": {p.target()}, "age": {age.String()}}
	if err := p.onNode(t.Context(), http.MethodPost, "/age", query, new(string)); err != nil {
		t.Fatal(err)
	}
}

// leftOf returns an error with the mounts, folders and cgroups of a deleted pod.
func (p *pod) leftOf(ctx context.Context) error {
	var mounts []mountinfo.Info
	var folders, groups []string
	err := errors.Join(
		p.onNode(ctx, http.MethodGet, "/mounts", url.Values{"dir": {p.podFolder()}}, &mounts),
		p.onNode(ctx, http.MethodGet, "/list", url.Values{"dir": {p.podFolder()}}, &folders),
		p.onNode(ctx, http.MethodGet, "/cgroups", url.Values{"uid": {p.uid}}, &groups),
	)
	if err == nil && len(mounts)+len(folders)+len(groups) > 0 {
		err = fmt.Errorf("left of %s: mounts %+v, folders %q, cgroups %q", p.name, mounts, folders, groups)
	}
	return err
}

func newGUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, section 5.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// report prints the state of the cluster after a failure.
func (e *env) report(t testing.TB) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "--output=wide"},
		{"get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"},
		{"logs", "--namespace", driverNamespace, "daemonset/" + release, "--tail=100"},
		{"logs", "--namespace", systemNamespace, "cloud", "--tail=50"},
	} {
		out, err := try(context.Background(), "", "kubectl", args...)
		t.Logf("kubectl %s\n%s%v", strings.Join(args, " "), out, err)
	}
}
