package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// testServerDryRun checks the output of the chart with the API server, which knows every field. Helm only checks the YAML.
func testServerDryRun(t *testing.T, e *env) {
	var version struct{ GitVersion string }
	if err := e.get(t.Context(), "/version", &version); err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][]string{
		"default": nil,
		"cluster identity": {
			"clusterIdentity.enabled=true", "defaultIdentity=cluster", "policy.rules[0].namespaces={a}", "policy.rules[0].identities={cluster}",
			"admission.volumes.enabled=true",
		},
		"openshift":    {"openshift.enabled=true"},
		"ca and proxy": {"caBundle.existingConfigMap=roots", "proxy.httpsProxy=http://proxy.example:3128", "proxy.noProxy=10.0.0.0/8"},
		"host network": {"hostNetwork=true", "httpPort=19808", "logFormatJSON=true", "logVerbosity=4"},
		"provider":     {"providerMode.enabled=true"},
		"china":        {"cloud.name=AzureChinaCloud", "admission.volumes.enabled=true", "admission.volumes.vaults={https://a*.vault.azure.cn,*}"},
		"admission":    {"admission.volumes.enabled=true", "allowReadWriteRequests=true"},
		"mutations":    {"admission.readyNode.enabled=true", "admission.clientID.enabled=true"},
		"second driver": {
			"driverName=second.keyvault-csi.io", "admission.volumes.enabled=true", "extraTokenAudiences={a,b}", "minReadySeconds=5",
			"extraEnv[0].name=GODEBUG", "extraEnv[0].value=netdns=go", "commonAnnotations.a=b", "csiDriver.labels.a=b", "serviceAccount.name=x",
			"networkPolicy.enabled=true", "test.volumeAttributes.vault=shop",
		},
	} {
		if name == "mutations" && !e.hasMutations(t) {
			continue
		}
		args := []string{"template", "dry-run", chart, "--kube-version", version.GitVersion, "--namespace", driverNamespace}
		for _, value := range values {
			args = append(args, "--set", value)
		}
		manifests := run(t, "helm", args...)
		_, err := try(t.Context(), manifests, "kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testHelmTest: helm test succeeds if the kubelet gets the volume of its pod published, and fails if not. The values of the test do not
// concern the driver.
func testHelmTest(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "of the test")
	e.admin(t, "/identities", object{"tenant": tenant, "clientID": v.clientID, "federated": []object{{
		"issuer": v.issuer, "subject": "system:serviceaccount:" + driverNamespace + ":default",
	}}})
	before := e.driverPods(t)
	defer run(t, "helm", append([]string{"upgrade", release, chart, "--wait", "--timeout=3m"}, e.helmValues...)...)
	install := func(secret string) {
		t.Helper()
		text, err := json.Marshal(object{"test": object{"volumeAttributes": v.objects("- secret: " + secret)}})
		if err != nil {
			t.Fatal(err)
		}
		values := path.Join(e.dir, "test.yaml")
		if err := os.WriteFile(values, text, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "helm", append([]string{"upgrade", release, chart, "--values", values, "--wait", "--timeout=3m"}, e.helmValues...)...)
	}
	requests := v.requests(t, 200)
	install("password")
	t.Log(run(t, "helm", "test", release, "--namespace", driverNamespace, "--timeout=2m"))
	if v.requests(t, 200) == requests {
		t.Error("helm test has succeeded without a request to the vault")
	}
	install("missing")
	// Helm waits in vain, because the kubelet cannot start the container. The event of the pod says why.
	_, err := try(t.Context(), "", "helm", "test", release, "--namespace", driverNamespace, "--timeout=10s")
	const phase, want = "\nPhase:          Failed\nNOTES:\n", "\nError: 1 error occurred:\n\t* timed out waiting for the condition\n\n\n"
	if err == nil || !strings.Contains(err.Error(), phase) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("helm test without the secret: %v\nwant %q, and %q at the end", err, phase, want)
	}
	p := &pod{env: e, namespace: driverNamespace, name: release + "-test"}
	status, err := p.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.uid = status.Metadata.UID
	p.troubled(t, "NotFound", v.asked("objects[0]", "missing")+
		"HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted")
	run(t, "kubectl", "delete", "pod", release+"-test", "--namespace", driverNamespace, "--wait")
	if now := e.driverPods(t); !slices.Equal(before, now) {
		t.Errorf("values of the test have replaced the pods of the driver: %q, now %q", before, now)
	}
}

const (
	secondName      = "second.keyvault-csi.io"
	secondNamespace = "keyvault-csi-second"
)

// testSecondDriver: a release with another driver name serves its own volumes on the same node, and its removal does not disturb the first.
func testSecondDriver(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "at first")
	attributes := v.objects("- secret: password")
	first := e.run(t, "first-driver", volume{attributes: attributes})

	run(t, "kubectl", "create", "namespace", secondNamespace)
	t.Cleanup(func() {
		_, err := try(context.Background(), "", "kubectl", "delete", "namespace", secondNamespace, "--ignore-not-found", "--timeout=2m")
		if err != nil {
			t.Error(err)
		}
	})
	// e.helmValues begin with the namespace of the first.
	run(t, "helm", append([]string{
		"install", "second", chart, "--namespace", secondNamespace, "--take-ownership", "--wait", "--timeout=3m",
		"--set", "namespace.create=true", "--set", "driverName=" + secondName,
	}, e.helmValues[2:]...)...)
	level := "-o=jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}"
	if got := run(t, "kubectl", "get", "namespace", secondNamespace, level); got != "privileged" {
		t.Errorf("the namespace has the level %q", got)
	}
	e.awaitRegistration(t, driverName, secondName)

	second := e.run(t, "second-driver", volume{driver: secondName, attributes: attributes})
	second.mustHold(t, mountPath+"/password", "at first")
	v.set(t, "password", "rotated")
	for _, p := range []*pod{first, second} {
		p.age(t, time.Minute)
		p.awaitContent(t, mountPath+"/password", "rotated")
	}
	checkUnmounted(t, second)

	run(t, "helm", "uninstall", "second", "--namespace", secondNamespace, "--wait", "--timeout=3m")
	eventually(t, "the end of the second driver", func(ctx context.Context) error {
		drivers, err := e.registered(ctx)
		if err == nil && (drivers[secondName] || !drivers[driverName]) {
			err = fmt.Errorf("the node has %v", drivers)
		}
		var names []string
		query := url.Values{"dir": {path.Join(e.kubeletRoot, "plugins_registry")}}
		err = errors.Join(err, e.onNode(ctx, "GET", "/list", query, &names))
		if slices.Contains(names, secondName+"-reg.sock") {
			err = errors.Join(err, fmt.Errorf("plugins_registry has %q", names))
		}
		return err
	})
	run(t, "kubectl", "get", "namespace", secondNamespace) // kept: helm.sh/resource-policy
	v.set(t, "password", "after the second")
	first.age(t, time.Minute)
	first.awaitContent(t, mountPath+"/password", "after the second")
	checkUnmounted(t, first)
}
