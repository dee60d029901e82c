package e2e

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
)

// vault is a vault of the dev cloud for one test, and an application that may read it.
type vault struct {
	*env
	name     string
	clientID string
}

// newVault makes a vault with an application that trusts the service account web.
func (e *env) newVault(t testing.TB) vault {
	t.Helper()
	v := vault{env: e, name: "e2e" + strings.ToLower(rand.Text()[:12]), clientID: newGUID()}
	v.create(t)
	v.identity(t, "web")
	return v
}

func (v vault) create(t testing.TB) {
	t.Helper()
	v.admin(t, "/vaults", object{"name": v.name, "tenant": tenant})
}

// identity makes the application, which trusts a service account and may read everything.
func (v vault) identity(t testing.TB, serviceAccount string) {
	t.Helper()
	v.admin(t, "/identities", object{"tenant": tenant, "clientID": v.clientID, "federated": []object{{
		"issuer": v.issuer, "subject": "system:serviceaccount:" + namespace + ":" + serviceAccount,
	}}})
	v.admin(t, "/grant", object{"vault": v.name, "clientID": v.clientID})
}

// baseline makes the identity trust the same service account of the namespace that allows uid 0 too.
func (v vault) baseline(t testing.TB) {
	t.Helper()
	v.admin(t, "/identities", object{"tenant": tenant, "clientID": v.clientID, "federated": []object{
		{"issuer": v.issuer, "subject": "system:serviceaccount:" + namespace + ":web"},
		{"issuer": v.issuer, "subject": "system:serviceaccount:" + agentNamespace + ":web"},
	}})
}

func (v vault) set(t testing.TB, name, value string) {
	t.Helper()
	v.admin(t, "/secrets", object{"vault": v.name, "name": name, "value": value})
}

// url is the vault's name in errors.
func (v vault) url() string { return "https://" + v.name + ".vault.azure.net" }

// objects are the attributes of a volume with these objects and workload identity.
func (v vault) objects(yaml string) map[string]string {
	return map[string]string{"vault": v.name, "clientID": v.clientID, "objects": yaml}
}

// requests counts requests to the vault; status 0 counts all.
func (v vault) requests(t testing.TB, status int) int {
	t.Helper()
	var lines []struct {
		Host          string
		Status, Count int
	}
	if err := v.adminCall(t.Context(), http.MethodGet, "/counts", nil, &lines); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, line := range lines {
		if line.Host == v.name+".vault.azure.net" && (status == 0 || status == line.Status) {
			sum += line.Count
		}
	}
	return sum
}
