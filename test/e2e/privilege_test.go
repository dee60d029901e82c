package e2e

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

// askNode asks the agent about the driver's process or files.
func askNode[T any](t *testing.T, e *env, what string, query url.Values) (out T) {
	t.Helper()
	if err := e.onNode(t.Context(), http.MethodGet, what, query, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

var theDriver = url.Values{"name": {"keyvault-csi-driver"}}

// testPrivileges: the driver has dropped the privileges of its container.
func testPrivileges(t *testing.T, e *env) {
	const onlyAdmin, none = "0000000000200000", "0000000000000000"
	want := map[string]string{
		"CapInh": none, "CapPrm": onlyAdmin, "CapEff": onlyAdmin, "CapBnd": onlyAdmin, "CapAmb": none, "NoNewPrivs": "1", "Uid": "0 0 0 0",
	}
	all := askNode[map[string]string](t, e, "/threads", theDriver)
	if len(all) < 2 {
		t.Errorf("the driver has %d threads", len(all))
	}
	for thread, status := range all {
		got := map[string]string{}
		for line := range strings.Lines(status) {
			key, value, _ := strings.Cut(line, ":")
			if _, wanted := want[key]; wanted {
				got[key] = strings.Join(strings.Fields(value), " ")
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("thread %s has\n%v, want\n%v", thread, got, want)
		}
	}
	t.Logf("%d threads, each with %v", len(all), want)
	shown := askNode[map[string]string](t, e, "/shown", theDriver)
	if limits := strings.Join(strings.Fields(shown["limits"]), " "); !strings.Contains(limits, "Max core file size 0 0 bytes") {
		t.Errorf("core files are allowed:\n%s", shown["limits"])
	}
	// The positive control: the agent is privileged too, and has dropped nothing.
	agent := askNode[map[string]string](t, e, "/threads", nil)
	for thread, status := range agent {
		if strings.Contains(status, onlyAdmin) || !strings.Contains(status, "NoNewPrivs:\t0") {
			t.Errorf("thread %s of a privileged container that does nothing about it has\n%s", thread, status)
		}
	}
}

// testSocketModes: a process that can connect to the driver can mount any pod's secrets.
func testSocketModes(t *testing.T, e *env) {
	for file, want := range map[string]string{
		"plugins/keyvault-csi.io/csi.sock":          "Srw------- 0:0",
		"plugins_registry/keyvault-csi.io-reg.sock": "Srw------- 0:0",
		"plugins/keyvault-csi.io":                   "drwxr-xr-x 0:0",
	} {
		if got := askNode[string](t, e, "/mode", url.Values{"file": {path.Join(e.kubeletRoot, file)}}); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
	}
}

// testImage: the container has no shell, no other program, and no written files.
func testImage(t *testing.T, e *env) {
	files := askNode[[]string](t, e, "/image", theDriver)
	if want := []string{"/keyvault-csi-driver", "/licenses/LICENSE", "/licenses/THIRD_PARTY_NOTICES"}; !slices.Equal(files, want) {
		t.Errorf("the driver's root holds %q, want %q", files, want)
	}
}

// testNothingSecretIsShown plants a value, a valid and an invalid client secret, and searches the output of Kubernetes about the pods and the
// driver. The text of the failed login is the positive control in each place.
func testNothingSecretIsShown(t *testing.T, e *env) {
	const value, right, wrong = "MARKER-value-of-a-vault-41aa", "MARKER~right~client~secret~52bb", "MARKER~wrong~client~secret~63cc"
	v := e.newVault(t)
	v.set(t, "password", value)
	principal := newGUID()
	v.admin(t, "/identities", object{"tenant": tenant, "clientID": principal, "secrets": []object{{"value": right}}})
	v.admin(t, "/grant", object{"vault": v.name, "clientID": principal})
	attributes := v.objects("- secret: password")
	delete(attributes, "clientID")
	var pods []*pod
	for kind, secret := range map[string]string{"right": right, "wrong": wrong} {
		name := kind + "-" + v.name
		apply(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": %q, "namespace": %q},
			"stringData": {"clientid": %q, "clientsecret": %q}}`, name, namespace, principal, secret))
		pods = append(pods, e.start(t, kind, volume{secretRef: name, attributes: attributes}))
	}
	for _, p := range pods {
		if strings.HasPrefix(p.name, "wrong") {
			p.awaitEvent(t, "AADSTS7000215")
			continue
		}
		p.awaitRunning(t)
		p.mustHold(t, mountPath+"/password", value)
	}
	var described strings.Builder
	for _, p := range pods {
		described.WriteString(run(t, "kubectl", "describe", "pod", "--namespace", namespace, p.name))
	}
	shown := askNode[map[string]string](t, e, "/shown", theDriver)
	selector := "--selector=app.kubernetes.io/name=keyvault-csi"
	metrics := run(t, "kubectl", "get", "--raw", "/api/v1/namespaces/"+driverNamespace+"/pods/"+e.driverPod(t)+":9808/proxy/metrics")
	for _, place := range []struct{ name, text, control string }{
		{"kubectl describe pod", described.String(), "AADSTS7000215"},
		{"kubectl get pod", run(t, "kubectl", "get", "pod", "--namespace", namespace, "--output=yaml"), "wrong-" + v.name},
		{"events", run(t, "kubectl", "get", "events", "--namespace", namespace, "--output=yaml"), "AADSTS7000215"},
		{"the driver's log", run(t, "kubectl", "logs", "--namespace", driverNamespace, selector, "--tail=-1"), "AADSTS7000215"},
		{"the driver's pod", run(t, "kubectl", "describe", "pod", "--namespace", driverNamespace, selector), "HTTPS_PROXY"},
		{"the driver's events", run(t, "kubectl", "get", "events", "--namespace", driverNamespace, "--output=yaml"), "kind: List"},
		{"CSIDriver and CSINode", run(t, "kubectl", "get", "csidriver,csinode", "--output=yaml"), "keyvault-csi.io"},
		{"metrics", metrics, `code="Unauthenticated"`},
		{"the driver's environment", shown["environ"], "HTTPS_PROXY"},
		{"the driver's command line", shown["cmdline"], "--endpoint=unix:///csi/csi.sock"},
	} {
		if !strings.Contains(place.text, place.control) {
			t.Errorf("the search does not work: %s has no %s:\n%s", place.name, place.control, place.text)
		}
		for _, secret := range []string{value, right, wrong} {
			for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))[:16]} {
				if strings.Contains(place.text, form) {
					t.Errorf("%s shows %q", place.name, form)
				}
			}
		}
		// A token is a JWT, which begins with these letters.
		if strings.Contains(place.text, "eyJ") {
			t.Errorf("%s shows a token", place.name)
		}
	}
}

// driverPod is the name of the driver's pod.
func (e *env) driverPod(t *testing.T) string {
	t.Helper()
	return run(t, "kubectl", "get", "pod", "--namespace", driverNamespace, "--selector=app.kubernetes.io/name=keyvault-csi",
		"--output=jsonpath={.items[0].metadata.name}")
}
