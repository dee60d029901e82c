package devcloud_test

import (
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// admin sends a request to the admin API and returns status and body.
func admin(t *testing.T, cloud *devcloud.Cloud, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, cloud.AdminURL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plain.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// A vault that was filled over HTTP serves a client; then its rights and objects are removed one by one.
func TestAdmin(t *testing.T) {
	t.Parallel()
	cloud, err := devcloud.Start(t.Context(), devcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	must := func(method, path, body string) string {
		t.Helper()
		status, answer := admin(t, cloud, method, path, body)
		if status != http.StatusOK {
			t.Fatalf("%s %s %s: %d %s", method, path, body, status, answer)
		}
		return answer
	}
	must("POST", "/vaults", `{"name":"shop","tenant":"`+tenant+`"}`)
	must("POST", "/identities", `{"tenant":"`+tenant+`","clientID":"`+clientID+`","secrets":[{"value":"`+password+`"}]}`)
	must("POST", "/identities", `{"tenant":"`+tenant+`","clientID":"`+workload+`","federated":[{"issuer":"`+cluster+`","subject":"system:serviceaccount:ns:sa"}]}`)
	must("POST", "/issuers", `{"url":"`+cluster+`"}`)
	must("POST", "/grant", `{"vault":"shop","clientID":"`+clientID+`"}`)
	must("POST", "/grant", `{"vault":"shop","clientID":"`+workload+`","rights":["secrets/get"]}`)
	must("POST", "/secrets", `{"vault":"shop","name":"a","value":"one","tags":{"env":"prod"},"contentType":"text/plain"}`)
	must("POST", "/certificates", `{"vault":"shop","name":"web","keyType":"P-256","contentType":"application/x-pem-file"}`)
	must("POST", "/keys", `{"vault":"shop","name":"sign","keyType":"P-256"}`)

	vault := cloud.Vault("shop")
	client := defaultClient(t, cloud, vault)
	value := func(name string) string {
		t.Helper()
		secret, err := client.GetSecret(t.Context(), name, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		return *secret.Value
	}
	if got := value("a"); got != "one" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(value("web"), "PRIVATE KEY") {
		t.Error("no PEM file")
	}
	if answer := must("POST", "/rotate", `{"vault":"shop","name":"a"}`); !strings.HasPrefix(answer, `{"version":"`) || value("a") == "one" {
		t.Errorf("rotated: %s", answer)
	}

	var token struct{ Token string }
	if err := json.Unmarshal([]byte(must("POST", "/tokens", `{"issuer":"`+cluster+`","namespace":"ns","serviceAccount":"sa","life":"10m"}`)), &token); err != nil {
		t.Fatal(err)
	}
	if _, err := assertionCredential(t, once(t, cloud), workload, token.Token).GetToken(t.Context(), vaultScope); err != nil {
		t.Error(err)
	}

	inner := func() string {
		t.Helper()
		_, err := client.GetSecret(t.Context(), "a", "", nil)
		if err == nil {
			return ""
		}
		got := refusalOf(t, err)
		return got.Code + "/" + got.Inner
	}
	for _, step := range []struct{ method, path, body, want string }{
		{"POST", "/disable", `{"vault":"shop","kind":"secrets","name":"a"}`, "Forbidden/SecretDisabled"},
		{"POST", "/enable", `{"vault":"shop","kind":"secrets","name":"a"}`, ""},
		{"POST", "/deny", `{"vault":"shop","clientID":"` + clientID + `","rights":["secrets/get"]}`, "Forbidden/ForbiddenByPolicy"},
		{"POST", "/grant", `{"vault":"shop","clientID":"` + clientID + `"}`, ""},
		{"POST", "/firewall", `{"vault":"shop","on":true}`, "Forbidden/ForbiddenByFirewall"},
		{"POST", "/firewall", `{"vault":"shop","on":false}`, ""},
		{"POST", "/faults", `{"action":"Throttle","service":"vault","retryAfter":"5s"}`, "Throttled/"},
		{"DELETE", "/faults", ``, ""},
		{"POST", "/faults", `{"action":"fail","status":500,"times":1,"delay":"1ms"}`, "InternalServerError/"},
		{"POST", "/clock", `{"vault":"shop","ahead":"2h"}`, "Unauthorized/"},
		{"POST", "/clock", `{"vault":"shop"}`, ""},
		{"POST", "/server-certificate", `{"vault":"shop","shows":"expired"}`, ""}, // the connection is already open
		{"POST", "/server-certificate", `{"vault":"shop"}`, ""},
		{"POST", "/token-life", `{"life":"5m"}`, ""},
		{"POST", "/delete", `{"vault":"shop","kind":"secrets","name":"a"}`, "SecretNotFound/"},
	} {
		must(step.method, step.path, step.body)
		if got := inner(); got != step.want {
			t.Errorf("after %s %s: %q", step.path, step.body, got)
		}
	}

	must("POST", "/disconnect", `{"host":"nowhere"}`)
	must("DELETE", "/counts", "")
	inner()
	if got := must("GET", "/counts", ""); got != `[{"service":"vault","host":"shop.vault.azure.net","kind":"secrets/get","status":404,"count":1}]` {
		t.Errorf("%s", got)
	}
	if got := must("GET", "/requests", ""); !strings.Contains(got, `"path":"/secrets/a/"`) || strings.Contains(got, "Bearer ") {
		t.Errorf("%s", got)
	}
	if got := must("GET", "/", ""); !strings.HasPrefix(got, "The dev cloud's admin API.") {
		t.Errorf("%s", got)
	}
	for _, test := range []struct{ path, body, want string }{
		{"/secrets", `{"vault":"nowhere","name":"a","value":"x"}`, `devcloud: no vault "nowhere"`},
		{"/secrets", `{"vault":"shop","nam":"a"}`, `json: unknown field "nam"`},
		{"/faults", `{"action":"explode"}`, `devcloud: no fault "explode", only [throttle fail delay hang cut stall endless malformed challenge reset]`},
		{"/faults", `{"action":"delay","delay":"soon"}`, `time: invalid duration "soon"`},
		{"/tokens", `{"issuer":"https://unknown","namespace":"a","serviceAccount":"b"}`, `devcloud: no issuer "https://unknown" of which the key is known`},
		{"/clock", `{"vault":"nowhere"}`, `devcloud: no vault "nowhere"`},
		{"/server-certificate", `{"vault":"nowhere"}`, `devcloud: no vault "nowhere"`},
		{"/server-certificate", `{"vault":"shop","shows":"x"}`, `devcloud: no server certificate "x"`},
		{"/rotate", `{"vault":"shop","kind":"keys","name":"sign"}`, "devcloud: keys/sign in shop.vault.azure.net is neither a plain secret nor an issued certificate"},
		{"/identities", `{"clientID":"x"}`, "devcloud: an identity needs a tenant and a client id"},
		{"/token-life", `{"life":"0s"}`, "devcloud: tokens need a life"},
		{"/issuers", `{"url":"https://x","jwks":{"keys":[]}}`, "devcloud: keys of https://x: no RSA key among them"},
	} {
		if status, got := admin(t, cloud, "POST", test.path, test.body); status != http.StatusBadRequest || got != test.want {
			t.Errorf("%s %s: %d %s", test.path, test.body, status, got)
		}
	}
}

func TestAdminIdentityWithCertificate(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	cert, err := vault.SetCertificate("login", devcloud.CertificateOptions{SelfSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw})))
	if status, got := admin(t, cloud, "POST", "/identities", `{"tenant":"`+tenant+`","clientID":"`+workload+`","certificates":`+string(text)+`}`); status != http.StatusOK {
		t.Fatal(got)
	}
	cred, err := azidentity.NewClientCertificateCredential(tenant, workload, certs(cert), cert.Key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: once(t, cloud)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cred.GetToken(t.Context(), vaultScope); err != nil {
		t.Error(err)
	}
}

// The SDK caches tokens of managed identities for the whole process, so that each run needs ids of its own. The
// system-assigned identity has no id and is requested without the SDK.
func TestManagedIdentities(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "for the node", devcloud.SecretOptions{})
	unique := rand.Text()
	resource := "/subscriptions/s/resourcegroups/r/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + unique
	addIdentity(t, cloud, devcloud.Identity{ClientID: unique, ObjectID: "object-" + unique, ResourceID: resource, Managed: true})
	addIdentity(t, cloud, devcloud.Identity{ClientID: "system", Managed: true, SystemAssigned: true})
	vault.Grant(unique)
	for name, id := range map[string]azidentity.ManagedIDKind{
		"client id": azidentity.ClientID(unique), "object id": azidentity.ObjectID("object-" + unique), "resource id": azidentity.ResourceID(resource),
	} {
		options := once(t, cloud)
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		secret, err := secretsClient(t, vault.URL(), cred, options).GetSecret(t.Context(), "a", "", nil)
		if err != nil || *secret.Value != "for the node" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := cloud.Count(devcloud.CountKey{Service: devcloud.ServiceIMDS, Kind: "token", Status: 200}); n != 3 {
		t.Errorf("%d tokens", n)
	}
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: once(t, cloud), ID: azidentity.ClientID("unknown-" + unique),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cred.GetToken(t.Context(), vaultScope); err == nil || !strings.Contains(err.Error(), "the requested identity isn't assigned to this resource") {
		t.Errorf("%v", err)
	}

	const path = imdsPath
	status, _, body := get(t, plain, http.MethodGet, cloud.IMDSURL()+path+"?api-version=2018-02-01&resource=https://vault.azure.net/", http.Header{"Metadata": {"true"}})
	if status != http.StatusOK || !strings.Contains(body, `"client_id":"system"`) || !strings.Contains(body, `"expires_in":"3600"`) {
		t.Errorf("system-assigned: %d %s", status, body)
	}
	for _, test := range []struct {
		query  string
		header http.Header
		want   string
	}{
		{"?api-version=2018-02-01&resource=https://vault.azure.net", nil, "Required metadata header not specified"},
		{"?api-version=2018-02-01&resource=https://vault.azure.net", http.Header{"Metadata": {"true"}, "X-Forwarded-For": {"10.0.0.1"}}, "X-Forwarded-For is not allowed"},
		{"?resource=https://vault.azure.net", http.Header{"Metadata": {"true"}}, "Required query variable 'api-version' is missing"},
		{"?api-version=2018-02-01", http.Header{"Metadata": {"true"}}, "Required query variable 'resource' is missing"},
		{"?api-version=2018-02-01&resource=https://other", http.Header{"Metadata": {"true"}}, "AADSTS500011: The resource principal named https://other was not found in the tenant."},
	} {
		status, _, body := get(t, plain, http.MethodGet, cloud.IMDSURL()+path+test.query, test.header)
		if status != http.StatusBadRequest || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s", test.query, status, body)
		}
	}
}

// The seeded cloud holds what its documentation says.
func TestSeed(t *testing.T) {
	t.Parallel()
	cloud, err := devcloud.Start(t.Context(), devcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	seeded, err := devcloud.Seed(cloud)
	if err != nil {
		t.Fatal(err)
	}
	token, err := seeded.Issuer.Token(devcloud.ServiceAccountToken{Namespace: devcloud.SeedNamespace, ServiceAccount: devcloud.SeedServiceAccount})
	if err != nil {
		t.Fatal(err)
	}
	options := once(t, cloud)
	cred, err := azidentity.NewClientAssertionCredential(devcloud.SeedTenant, devcloud.SeedWorkload, fixed(token), &azidentity.ClientAssertionCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	principal := secretCredential(t, options, devcloud.SeedDomain, devcloud.SeedServicePrincipal, devcloud.SeedClientSecret)
	if _, err := principal.GetToken(t.Context(), vaultScope); err != nil {
		t.Error(err)
	}
	client := secretsClient(t, seeded.Vault.URL(), cred, options)
	enabled := 0
	for pages := client.NewListSecretPropertiesPager(nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Value {
			if _, err := client.GetSecret(t.Context(), item.ID.Name(), "", nil); (err == nil) != *item.Attributes.Enabled {
				t.Errorf("%s: %v", item.ID.Name(), err)
			}
			if *item.Attributes.Enabled {
				enabled++
			}
		}
	}
	if enabled != 7 || len(seeded.WebTLS.CAs) != 2 {
		t.Errorf("%d secrets, %d CAs", enabled, len(seeded.WebTLS.CAs))
	}
}
