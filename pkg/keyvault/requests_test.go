package keyvault_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The number of requests of a fetch is exact: a challenge for each vault, a token for each identity and for each pod
// of a service account, one request for each object.
func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "value of b", devcloud.SecretOptions{})
	cold := map[string]int{
		"vault secrets/get Unauthorized": 1, "login token OK": 1, "vault secrets/get OK": 1,
	}
	warm := map[string]int{"vault secrets/get OK": 1}
	otherIdentity := map[string]int{"login token OK": 1, "vault secrets/get OK": 1}

	other := w.asServicePrincipal(secret("a"))
	other.Identity.ClientID = otherClientID
	explicit := w.asServicePrincipal(secret("a"))
	explicit.Identity.TenantID = tenantID
	anotherPod := w.asWorkload(secret("a"))
	anotherPod.Pod.UID = "another"
	twice := w.asServicePrincipal(secret("a"), secret("a"), secret("A"))
	twice.Objects[1].Outputs = []volume.Output{{Part: volume.PartValue, Path: "again"}}
	twice.Objects[2].Outputs = []volume.Output{{Part: volume.PartValue, Path: "again-in-capitals"}}

	for _, step := range []struct {
		name    string
		request volume.Request
		want    map[string]int
	}{
		{"cold", w.asServicePrincipal(secret("a")), cold},
		{"warm", w.asServicePrincipal(secret("a")), warm},
		{"warm, another object", w.asServicePrincipal(secret("b")), warm},
		{"the tenant by name is the same login", explicit, warm},
		{"another client id", other, otherIdentity},
		{"another identity", w.asWorkload(secret("a")), otherIdentity},
		{"the same pod with a new token", w.asWorkload(secret("a")), warm},
		{"another pod of the same service account", anotherPod, otherIdentity},
		{"an object asked for thrice", twice, warm},
		{"two objects", w.asServicePrincipal(secret("a"), secret("b")), map[string]int{"vault secrets/get OK": 2}},
	} {
		w.ResetCounts()
		w.fetch(step.request)
		if diff := cmp.Diff(step.want, w.requests()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}
