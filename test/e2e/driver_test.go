package e2e

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
)

// clusterFile is the node's azure.json. The usual path may belong to the machine, so tests do not use it.
const clusterFile = "/run/keyvault-csi-e2e/azure.json"

// driverValues allow the node's identities to some namespaces. The driver runs on the node with that file; %q is the node's host name.
const driverValues = `
nodeSelector: {kubernetes.io/hostname: %q}
clusterIdentity: {enabled: true, file: ` + clusterFile + `}
policy:
  rules:
  - {namespaces: [` + namespace + `, ` + agentNamespace + `], identities: [cluster]}
  - {namespaces: [` + agentNamespace + `], identities: [managed]} # the node's own
  - {namespaces: [` + agentNamespace + `], identities: [managed], clientIDs: [` + assignedID + `]}
  - {namespaces: ["*"], identities: [workload, servicePrincipal]}
`

// installDriver installs the chart and waits until the driver is registered on the node.
func (e *env) installDriver(t testing.TB) {
	t.Helper()
	ca := path.Join(e.dir, "ca.pem")
	text := run(t, "kubectl", "exec", "--namespace", systemNamespace, "cloud", "--", "/workload", "print", "/tmp/cloud/ca.pem")
	if err := os.WriteFile(ca, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	values := path.Join(e.dir, "values.yaml")
	if err := os.WriteFile(values, fmt.Appendf(nil, driverValues, e.hostname), 0o600); err != nil {
		t.Fatal(err)
	}
	colon := strings.LastIndexByte(e.driverImage, ':')
	e.helmValues = []string{
		"--namespace", driverNamespace, "--values", values, "--set-file", "caBundle.pem=" + ca,
		"--set", "image.repository=" + e.driverImage[:colon], "--set-string", "image.tag=" + e.driverImage[colon+1:],
		"--set", "proxy.httpsProxy=http://" + e.cloudAddress(t) + ":8080",
		"--set", "kubeletRootDir=" + e.kubeletRoot, "--set", "rotationInterval=30s",
	}
	run(t, "helm", append([]string{"upgrade", "--install", release, chart, "--create-namespace", "--wait", "--timeout=3m"}, e.helmValues...)...)
	e.awaitDriver(t)
}

// cloudAddress is the IP address of the dev cloud's pod.
func (e *env) cloudAddress(t testing.TB) string {
	t.Helper()
	var cloud podStatus
	if err := e.get(t.Context(), "/api/v1/namespaces/"+systemNamespace+"/pods/cloud", &cloud); err != nil {
		t.Fatal(err)
	}
	return cloud.Status.PodIP
}

// awaitDriver waits until the DaemonSet is ready and the kubelet has registered the driver.
func (e *env) awaitDriver(t testing.TB) {
	t.Helper()
	run(t, "kubectl", "rollout", "status", "--namespace", driverNamespace, "daemonset/"+release, "--timeout=3m")
	e.awaitRegistration(t, driverName)
}

// awaitRegistration waits until the kubelet has registered these drivers.
func (e *env) awaitRegistration(t testing.TB, names ...string) {
	t.Helper()
	eventually(t, "registration", func(ctx context.Context) error {
		drivers, err := e.registered(ctx)
		for _, name := range names {
			if err == nil && !drivers[name] {
				err = fmt.Errorf("the node has %v", drivers)
			}
		}
		return err
	})
}

// registered returns the drivers that are registered on the node.
func (e *env) registered(ctx context.Context) (map[string]bool, error) {
	var node struct {
		Spec struct{ Drivers []struct{ Name string } }
	}
	if err := e.get(ctx, "/apis/storage.k8s.io/v1/csinodes/"+e.node, &node); err != nil {
		return nil, err
	}
	drivers := map[string]bool{}
	for _, driver := range node.Spec.Drivers {
		drivers[driver.Name] = true
	}
	return drivers, nil
}
