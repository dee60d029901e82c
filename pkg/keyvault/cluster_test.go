package keyvault_test

import (
	"crypto/x509"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const clusterFile = "/etc/kubernetes/azure.json"

// cluster is a request with the cluster's identity.
func cluster(change ...func(*volume.Identity)) volume.Request {
	id := volume.Identity{Kind: volume.Cluster}
	for _, f := range change {
		f(&id)
	}
	return request(id, []volume.Object{secret("a")})
}

// files is the node's file system.
type files map[string]string

func (f files) options(o *keyvault.Options) {
	o.ClusterFile = clusterFile
	o.ReadFile = func(name string) ([]byte, error) {
		if content, ok := f[name]; ok {
			return []byte(content), nil
		}
		return nil, errors.New("no such file or directory")
	}
}

func newCluster(t *testing.T, on files, change ...func(*keyvault.Options)) *fixture {
	t.Helper()
	w := newVM(t, append([]func(*keyvault.Options){on.options}, change...)...)
	w.vault.Grant(ownID)
	w.must(w.AddIdentity(devcloud.Identity{
		Tenant: tenantID, ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: clientSecret}},
		Certificates: []*x509.Certificate{firstCertificate(t, "plain.pem")},
	}))
	return w
}

// TestClusterFile logs in with each common form of the file. query is the request to the metadata service.
func TestClusterFile(t *testing.T) {
	t.Parallel()
	const head = `{"cloud":"AzurePublicCloud","tenantId":"` + tenantID + `",`
	on := files{
		"/etc/kubernetes/certs/sp.pfx": string(loginFile(t, "modern-password.pfx")),
		"/etc/kubernetes/certs/sp.pem": string(loginFile(t, "plain.pem")),
	}
	for name, test := range map[string]struct{ content, query string }{
		"secret":                {head + `"aadClientId":"` + strings.ToUpper(clientID) + `","aadClientSecret":"` + clientSecret + `","subscriptionId":"s","vmType":"vmss","loadBalancerSku":"Standard"}`, ""},
		"a byte order mark":     {"\ufeff" + head + `"aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`, ""},
		"no tenant, no cloud":   {`{"aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`, ""},
		"cloud in capitals":     {`{"cloud":"AZURECLOUD","aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`, ""},
		"PFX":                   {head + `"aadClientId":"` + clientID + `","aadClientCertPath":"/etc/kubernetes/certs/sp.pfx","aadClientCertPassword":"` + certificatePassword + `"}`, ""},
		"PEM":                   {head + `"aadClientId":"` + clientID + `","aadClientSecret":"","aadClientCertPath":"/etc/kubernetes/certs/sp.pem"}`, ""},
		"AKS, kubelet":          {head + `"aadClientId":"msi","aadClientSecret":"msi","useManagedIdentityExtension":true,"userAssignedIdentityID":"` + assignedID + `"}`, "client_id"},
		"AKS, of its own":       {head + `"aadClientId":"msi","aadClientSecret":"msi","useManagedIdentityExtension":true,"userAssignedIdentityID":""}`, "-"},
		"msi alone":             {head + `"aadClientId":"msi","aadClientSecret":"msi","userAssignedIdentityID":"` + assignedID + `"}`, "client_id"},
		"the extension alone":   {head + `"useManagedIdentityExtension":true}`, "-"},
		"by resource id":        {head + `"useManagedIdentityExtension":true,"userAssignedIdentityID":"` + resourceID + `"}`, "msi_res_id"},
		"managed before secret": {head + `"useManagedIdentityExtension":true,"aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := files{clusterFile: test.content}
			maps.Copy(own, on)
			w := newCluster(t, own)
			if got := w.fetch(cluster())["a"]; got != "value of a" {
				t.Errorf("got %q", got)
			}
			requests := asked(w)
			switch {
			case test.query == "" && len(requests) != 0, test.query != "" && len(requests) != 1:
				t.Errorf("the metadata service was asked %v", requests)
			case len(test.query) > 1 && !strings.Contains(strings.Join(requests[0].Query, " "), test.query):
				t.Errorf("the metadata service was asked with %v, want %s", requests[0].Query, test.query)
			}
		})
	}
}

func TestClusterFileProblems(t *testing.T) {
	t.Parallel()
	const file = "identity cluster: the file " + clusterFile
	const as = `secrets[0]: secret "a" of https://shop.vault.azure.net as cluster ` + clientID + ": "
	sp := func(rest string) string {
		return `{"tenantId":"` + tenantID + `","aadClientId":"` + clientID + `",` + rest + `}`
	}
	for name, test := range map[string]struct {
		content  string // empty: there is no file
		sentinel error
		text     string
	}{
		"no file":        {"", volume.ErrPrecondition, file + " cannot be read: no such file or directory; the driver needs the node's file there (--cluster-identity-file)"},
		"no JSON":        {"tenantId: x", volume.ErrPrecondition, file + " is not a JSON object"},
		"a list":         {"[]", volume.ErrPrecondition, file + " is not a JSON object"},
		"null":           {"null", volume.ErrPrecondition, file + ": aadClientId: is missing, and useManagedIdentityExtension is not true"},
		"a wrong type":   {`{"useManagedIdentityExtension":"true"}`, volume.ErrPrecondition, file + " has a value of a wrong type: useManagedIdentityExtension must be true or false"},
		"a number":       {`{"aadClientSecret":17}`, volume.ErrPrecondition, file + " has a value of a wrong type: aadClientSecret must be a string"},
		"no client":      {`{"aadClientSecret":"x"}`, volume.ErrPrecondition, file + ": aadClientId: is missing, and useManagedIdentityExtension is not true"},
		"a strange one":  {`{"aadClientId":"me","aadClientSecret":"x"}`, volume.ErrPrecondition, file + `: aadClientId: "me" is not a GUID`},
		"no secret":      {sp(`"aadClientSecret":""`), volume.ErrPrecondition, file + ": aadClientSecret: is missing, and so is aadClientCertPath"},
		"no certificate": {sp(`"aadClientCertPath":"/a.pfx"`), volume.ErrPrecondition, file + ": aadClientCertPath: /a.pfx cannot be read: no such file or directory"},
		"no path":        {sp(`"aadClientCertPath":"/a\u001b[2J\nb"`), volume.ErrPrecondition, file + `: aadClientCertPath: "/a\x1b[2J\nb" is not the path of a file`},
		"a broken certificate": {sp(`"aadClientCertPath":"/broken.pfx"`), volume.ErrPrecondition,
			as + "the certificate at aadClientCertPath of the cluster's file is neither PEM nor a readable PKCS#12 file"},
		"a tenant":       {`{"tenantId":"a b","aadClientId":"` + clientID + `"}`, volume.ErrPrecondition, file + `: tenantId: "a b" is not a GUID or a domain name`},
		"another cloud":  {`{"cloud":"AzureChinaCloud"}`, volume.ErrPrecondition, file + `: cloud: is "AzureChinaCloud", and the driver is set up for AzurePublicCloud (--cloud)`},
		"user assigned":  {`{"useManagedIdentityExtension":true,"userAssignedIdentityID":"web"}`, volume.ErrPrecondition, file + `: userAssignedIdentityID: "web" is neither a client id nor a resource id`},
		"federated":      {`{"useFederatedWorkloadIdentityExtension":true}`, volume.ErrPrecondition, file + ": useFederatedWorkloadIdentityExtension: a login by the cluster's own federated token is not supported; use identity workload"},
		"a wrong secret": {sp(`"aadClientSecret":"wrong"`), volume.ErrUnauthenticated, as + "Entra ID answered HTTP 401 invalid_client, AADSTS7000215: the client secret is wrong; give its value, not its id, in the cluster's file (--cluster-identity-file)"},
		"a wrong tenant": {`{"tenantId":"` + otherTenantID + `","aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`, volume.ErrUnauthenticated,
			as + "Entra ID answered HTTP 400 unauthorized_client, AADSTS700016: tenant " + otherTenantID + " has no such application; check aadClientId and tenantId in the " +
				"cluster's file, or set tenantID to auto (asked of tenant " + otherTenantID + ", while the vault belongs to tenant " + tenantID + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := files{clusterFile: test.content, "/broken.pfx": "broken"}
			if test.content == "" {
				delete(on, clusterFile)
			}
			w := newCluster(t, on)
			w.AddTenant(otherTenantID)
			w.fails(cluster(), test.sentinel, test.text)
		})
	}
}

// The vault's challenge and the pod's tenant override the file's tenant.
func TestClusterTenant(t *testing.T) {
	t.Parallel()
	w := newCluster(t, files{clusterFile: `{"tenantId":"` + otherTenantID + `","aadClientId":"` + clientID + `","aadClientSecret":"` + clientSecret + `"}`})
	w.AddTenant(otherTenantID)
	w.fetch(cluster(func(id *volume.Identity) { id.DetectTenant = true }))
	w.fetch(cluster(func(id *volume.Identity) { id.TenantID = tenantID }))
	if _, err := w.client.Fetch(t.Context(), cluster()); !errors.Is(err, volume.ErrUnauthenticated) {
		t.Errorf("with the file's tenant: %v, want ErrUnauthenticated", err)
	}
}

// A changed file counts with the next fetch, in both directions.
func TestClusterFileIsReadAgain(t *testing.T) {
	t.Parallel()
	with := func(secret string) string {
		return `{"aadClientId":"` + clientID + `","aadClientSecret":"` + secret + `"}`
	}
	on := files{clusterFile: with("wrong")}
	w := newCluster(t, on)
	for range 2 {
		on[clusterFile] = with("wrong")
		if _, err := w.client.Fetch(t.Context(), cluster()); !errors.Is(err, volume.ErrUnauthenticated) {
			t.Errorf("with a wrong secret: %v, want ErrUnauthenticated", err)
		}
		on[clusterFile] = with(clientSecret)
		w.fetch(cluster())
		on[clusterFile] = `{"useManagedIdentityExtension":true}`
		w.fetch(cluster())
	}
	delete(on, clusterFile)
	if _, err := w.client.Fetch(t.Context(), cluster()); !errors.Is(err, volume.ErrPrecondition) {
		t.Errorf("without the file: %v, want ErrPrecondition", err)
	}
}
