package e2e

import "testing"

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
