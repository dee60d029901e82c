package e2e

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// providers stands in for the node's folder /var/run/secrets-store-csi-providers, which may belong to the machine.
var providers = path.Join(path.Dir(clusterFile), "providers")

// testProviderMode: with the value set the Secrets Store CSI Driver finds its provider azure in the folder of the node, and root alone
// can connect.
func testProviderMode(t *testing.T, e *env) {
	install := func(enabled string) {
		run(t, "helm", append([]string{
			"upgrade", release, chart, "--set", "providerMode.enabled=" + enabled, "--set", "providerMode.socketFolder=" + providers,
			"--wait", "--timeout=3m",
		}, e.helmValues...)...)
		e.awaitDriver(t)
	}
	socket := url.Values{"file": {path.Join(providers, "azure.sock")}}
	install("true")
	if got, want := askNode[string](t, e, "/mode", socket), "Srw------- 0:0"; got != want {
		t.Errorf("the socket is %s, want %s", got, want)
	}
	got := askNode[string](t, e, "/provider", socket)
	if version, ok := strings.CutPrefix(got, "v1alpha1 keyvault-csi "); !ok || version == "" {
		t.Errorf("Version answers %q", got)
	}
	v := e.newVault(t)
	v.set(t, "password", "beside it")
	p := e.run(t, "beside-provider-mode", volume{attributes: v.objects("- secret: password")})
	p.mustHold(t, mountPath+"/password", "beside it")
	p.delete(t)

	install("false")
	if left := askNode[[]string](t, e, "/list", url.Values{"dir": {providers}}); len(left) != 0 {
		t.Errorf("after it was switched off the folder holds %q", left)
	}
}
