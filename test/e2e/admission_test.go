package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"
)

// readyLabel is the label that the kubelet makes of the driver's topology.
const readyLabel = "topology.keyvault-csi.io/ready"

// admissionValues limit the policies to the namespace of the tests.
const admissionValues = `
admission:
  readyNode: {enabled: true}
  clientID: {enabled: true}
  volumes: {enabled: true, vaults: ["https://e2e*.vault.azure.net"]}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + namespace + `}}
`

// testAdmission: the chart's admission policies, on a node that the driver leaves and comes back to.
func testAdmission(t *testing.T, e *env) {
	if !e.hasMutations(t) {
		t.Skip("the API server has no MutatingAdmissionPolicy")
	}
	v := e.newVault(t)
	v.set(t, "password", "x")
	wrong := v.objects("- secret: password")
	wrong["vault"], wrong["clientId"] = "elsewhere", wrong["clientID"]
	delete(wrong, "clientID")
	earlier := e.workload("Deployment", "earlier", volume{writable: true, attributes: wrong})
	applyTo(t, earlier)

	values := path.Join(e.dir, "admission.yaml")
	if err := os.WriteFile(values, []byte(admissionValues), 0o600); err != nil {
		t.Fatal(err)
	}
	before := e.driverPods(t)
	run(t, "helm", append([]string{"upgrade", release, chart, "--values", values, "--wait", "--timeout=3m"}, e.helmValues...)...)
	defer run(t, "helm", append([]string{"upgrade", release, chart, "--wait", "--timeout=3m"}, e.helmValues...)...)
	if now := e.driverPods(t); strings.Join(before, " ") != strings.Join(now, " ") {
		t.Errorf("the policies have replaced the pods of the driver: %q, now %q", before, now)
	}

	t.Run("a wrong volume is refused", func(t *testing.T) { testWrongVolumes(t, e, wrong) })
	t.Run("a workload of before can change", func(t *testing.T) { testEarlierWorkload(t, e, earlier) })
	t.Run("clientID of the service account", func(t *testing.T) { testClientIDOfAccount(t, v) })
	t.Run("a pod waits for the driver", func(t *testing.T) { testWaitsForDriver(t, v) })
}

// hasMutations reports whether the API server has MutatingAdmissionPolicy, as from 1.36 on.
func (e *env) hasMutations(t *testing.T) bool {
	t.Helper()
	var list struct{ Resources []struct{ Name string } }
	if err := e.get(t.Context(), "/apis/admissionregistration.k8s.io/v1", &list); err != nil {
		t.Fatal(err)
	}
	for _, resource := range list.Resources {
		if resource.Name == "mutatingadmissionpolicies" {
			return true
		}
	}
	return false
}

// workload is a manifest of any kind with a pod that has this volume. No workload runs its pod.
func (e *env) workload(kind, name string, v volume) object {
	pod := e.newPod(name).manifest(v)
	spec, _ := pod["spec"].(object)
	labels := object{"app": name}
	template := object{"metadata": object{"labels": labels}, "spec": spec}
	o := object{"apiVersion": "apps/v1", "kind": kind, "metadata": object{"name": name, "namespace": namespace}}
	switch kind {
	case "Pod":
		o["apiVersion"], o["spec"] = "v1", spec
	case "Job", "CronJob":
		spec["restartPolicy"] = "Never"
		job := object{"suspend": true, "template": template}
		o["apiVersion"], o["spec"] = "batch/v1", job
		if kind == "CronJob" {
			o["spec"] = object{"suspend": true, "schedule": "@yearly", "jobTemplate": object{"spec": job}}
		}
	case "DaemonSet":
		spec["nodeSelector"] = object{"kubernetes.io/hostname": "none"}
		o["spec"] = object{"selector": object{"matchLabels": labels}, "template": template}
	default:
		o["spec"] = object{"replicas": 0, "selector": object{"matchLabels": labels}, "template": template}
	}
	return o
}

// tryApply is `kubectl apply` of one object.
func tryApply(t *testing.T, o object) error {
	t.Helper()
	manifest, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = try(t.Context(), string(manifest), "kubectl", "apply", "-f", "-")
	return err
}

// applyTo applies an object, which the end of the test deletes.
func applyTo(t *testing.T, o object) {
	t.Helper()
	if err := tryApply(t, o); err != nil {
		t.Fatal(err)
	}
	metadata, _ := o["metadata"].(object)
	t.Cleanup(func() {
		_, err := try(context.Background(), "", "kubectl", "delete", fmt.Sprint(o["kind"]), fmt.Sprint(metadata["name"]), "--namespace", namespace)
		if err != nil {
			t.Error(err)
		}
	})
}

// testWrongVolumes: one line has all problems. A template may leave out its identity, because its pods get one.
func testWrongVolumes(t *testing.T, e *env, wrong map[string]string) {
	const problems = "denied request: volume secrets: clientId: unknown attribute, did you mean clientID?; " +
		"volume secrets: set readOnly: true under csi; " +
		"volume secrets: vault: elsewhere is not allowed in this cluster, want https://e2e*.vault.azure.net"
	for _, kind := range []string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"} {
		want := problems
		if kind == "Pod" {
			want += "; volume secrets: names no identity, set clientID, or name a Secret in nodePublishSecretRef, " +
				"or annotate service account web with azure.workload.identity/client-id"
		}
		o := e.workload(kind, "wrong", volume{writable: true, attributes: wrong})
		eventually(t, "a refusal of the "+kind, func(context.Context) error { // the API server has not yet read a new policy
			err := tryApply(t, o)
			if err == nil {
				run(t, "kubectl", "delete", kind, "wrong", "--namespace", namespace)
				return fmt.Errorf("it is accepted")
			}
			if !strings.Contains(err.Error(), want+"\n") {
				t.Fatalf("kubectl apply says\n%v\nwant\n%s", err, want)
			}
			return nil
		})
		right := map[string]string{"vault": "HTTPS://E2E-web.vault.azure.net:443/", "objects": "- secret: password", "downloadCACertificates.x": "true"}
		if kind == "Pod" {
			right["clientID"] = newGUID()
		}
		o = e.workload(kind, "right", volume{attributes: right})
		if err := tryApply(t, o); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		run(t, "kubectl", "delete", kind, "right", "--namespace", namespace, "--wait=true")
	}
}

// testEarlierWorkload: what was accepted before the policy can be changed, but for its volumes.
func testEarlierWorkload(t *testing.T, e *env, earlier object) {
	run(t, "kubectl", "label", "deployment", "earlier", "--namespace", namespace, "a=b")
	run(t, "kubectl", "set", "env", "deployment/earlier", "--namespace", namespace, "A=b")
	changed := e.workload("Deployment", "earlier", volume{writable: true, attributes: map[string]string{"vault": "another"}})
	if err := tryApply(t, changed); err == nil || !strings.Contains(err.Error(), "volume secrets: set readOnly: true under csi") {
		t.Errorf("another wrong volume: %v", err)
	}
}

// testClientIDOfAccount: the pod names no identity, and its service account's annotation does.
func testClientIDOfAccount(t *testing.T, v vault) {
	v.annotate(t, "web", v.clientID)
	defer run(t, "kubectl", "annotate", "serviceaccount", "web", "--namespace", namespace, clientIDAnnotation+"-")
	attributes := v.objects("- secret: password")
	delete(attributes, "clientID")
	v.run(t, "annotated", volume{attributes: attributes}).mustHold(t, mountPath+"/password", "x")

	// What a pod says itself is not changed.
	own := newGUID()
	p := v.start(t, "own", volume{attributes: map[string]string{"vault": v.name, "clientID": own, "objects": "- secret: password"}})
	p.awaitEvent(t, " as workload "+own)

	// Another account has none. The annotation of a namesake in another namespace does not count.
	run(t, "kubectl", "create", "serviceaccount", "stranger", "--namespace", otherNamespace)
	run(t, "kubectl", "annotate", "serviceaccount", "stranger", "--namespace", otherNamespace, clientIDAnnotation+"="+v.clientID)
	err := tryApply(t, v.workload("Pod", "stranger", volume{serviceAccount: "stranger", attributes: attributes}))
	if want := "or annotate service account stranger with " + clientIDAnnotation; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a pod of an account without the annotation: %v", err)
	}
}

const clientIDAnnotation = "azure.workload.identity/client-id"

// annotate annotates a service account, and waits until the API server's policy has seen it.
func (v vault) annotate(t *testing.T, account, clientID string) {
	t.Helper()
	run(t, "kubectl", "annotate", "serviceaccount", account, "--namespace", namespace, clientIDAnnotation+"="+clientID)
	attributes := v.objects("- secret: password")
	delete(attributes, "clientID")
	o := v.workload("Pod", "annotated", volume{serviceAccount: account, attributes: attributes})
	eventually(t, "clientID of the annotation", func(ctx context.Context) error {
		return v.call(ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods?dryRun=All", o, nil)
	})
}

// testWaitsForDriver: the kubelet writes the label when it registers the driver, and leaves it when the driver goes. Where it is missing, a
// pod with a volume waits, and another does not.
func testWaitsForDriver(t *testing.T, v vault) {
	if got := v.label(t); got != "true" {
		t.Fatalf("the node has %s=%q", readyLabel, got)
	}
	place := func(selector any) {
		t.Helper()
		patch := object{"spec": object{"template": object{"spec": object{"nodeSelector": object{"keyvault-csi.io/nowhere": selector}}}}}
		if err := v.call(t.Context(), http.MethodPatch, "/apis/apps/v1/namespaces/"+driverNamespace+"/daemonsets/"+release, patch, nil); err != nil {
			t.Fatal(err)
		}
	}
	place("true")
	eventually(t, "the end of the driver", func(ctx context.Context) error {
		drivers, err := v.registered(ctx)
		if err == nil && drivers["keyvault-csi.io"] {
			err = fmt.Errorf("the node still has %v", drivers)
		}
		return err
	})
	if got := v.label(t); got != "true" {
		t.Errorf("without the driver the node has %s=%q: docs/admission.md says that the label stays", readyLabel, got)
	}
	run(t, "kubectl", "label", "node", v.node, readyLabel+"-")

	p := v.start(t, "waits", volume{attributes: v.objects("- secret: password")})
	eventually(t, "a pod that waits for a node", func(ctx context.Context) error {
		var waiting struct {
			Status struct {
				Conditions []struct{ Type, Status, Reason string }
			}
		}
		err := v.get(ctx, p.path(""), &waiting)
		if got := fmt.Sprint(waiting.Status.Conditions); err == nil && got != "[{PodScheduled False Unschedulable}]" {
			err = fmt.Errorf("its conditions are %s", got)
		}
		return err
	})
	v.run(t, "plain", volume{emptyDir: true})

	place(nil)
	v.awaitDriver(t)
	p.awaitRunning(t)
	p.mustHold(t, mountPath+"/password", "x")
	if got := v.label(t); got != "true" {
		t.Errorf("with the driver the node has %s=%q", readyLabel, got)
	}
}

// label is the value of the node's label.
func (e *env) label(t *testing.T) string {
	t.Helper()
	var node struct {
		Metadata struct{ Labels map[string]string }
	}
	if err := e.get(t.Context(), "/api/v1/nodes/"+e.node, &node); err != nil {
		t.Fatal(err)
	}
	return node.Metadata.Labels[readyLabel]
}
