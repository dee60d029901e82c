package devcloud_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

const (
	tenant   = "11111111-1111-4111-8111-111111111111"
	clientID = "22222222-2222-4222-8222-222222222222"
	password = "client-secret-value"
	host     = "shop.vault.azure.net"
)

// newCloud starts a cloud with one vault and one service principal with all rights.
func newCloud(t *testing.T, opts devcloud.Options) (*devcloud.Cloud, *devcloud.Vault) {
	t.Helper()
	cloud, err := devcloud.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	vault, err := cloud.AddVault("shop", devcloud.VaultOptions{Tenant: tenant})
	if err != nil {
		t.Fatal(err)
	}
	addIdentity(t, cloud, devcloud.Identity{ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: password}}})
	vault.Grant(clientID)
	return cloud, vault
}

func addIdentity(t *testing.T, cloud *devcloud.Cloud, id devcloud.Identity) {
	t.Helper()
	id.Tenant = tenant
	if err := cloud.AddIdentity(id); err != nil {
		t.Fatal(err)
	}
}

// once returns options of the SDK without retries, through the proxy of the cloud.
func once(t *testing.T, cloud *devcloud.Cloud) policy.ClientOptions {
	t.Helper()
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	return policy.ClientOptions{Transport: client, Retry: policy.RetryOptions{MaxRetries: -1}}
}

func secretCredential(t *testing.T, options policy.ClientOptions, tenant, id, secret string) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewClientSecretCredential(tenant, id, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func assertionCredential(t *testing.T, options policy.ClientOptions, id, assertion string) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewClientAssertionCredential(tenant, id, fixed(assertion),
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func secretsClient(t *testing.T, url string, cred azcore.TokenCredential, options policy.ClientOptions) *azsecrets.Client {
	t.Helper()
	client, err := azsecrets.NewClient(url, cred, &azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func defaultClient(t *testing.T, cloud *devcloud.Cloud, vault *devcloud.Vault) *azsecrets.Client {
	t.Helper()
	options := once(t, cloud)
	return secretsClient(t, vault.URL(), secretCredential(t, options, tenant, clientID, password), options)
}

// vaultError is the error answer of a vault as a client reads it.
type vaultError struct {
	Status               int
	Code, Inner, Message string
}

func refusalOf(t *testing.T, err error) vaultError {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		t.Fatalf("no answer of the vault but %v", err)
	}
	body, err := runtime.Payload(response.RawResponse)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Error struct {
			Message    string
			InnerError struct{ Code string }
		}
	}
	if err := json.Unmarshal(body, &parsed); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return vaultError{response.StatusCode, response.ErrorCode, parsed.Error.InnerError.Code, parsed.Error.Message}
}

// The counts are the exact numbers of requests of a client of the SDK.
func TestColdAndWarm(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	before := time.Now().Truncate(time.Second) // Key Vault has times in seconds
	version := vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{
		ContentType: "text/plain", Tags: map[string]string{"env": "prod"},
	})
	client := defaultClient(t, cloud, vault)

	for _, name := range []string{"db-password", "DB-Password"} {
		secret, err := client.GetSecret(t.Context(), name, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if *secret.Value != "hunter2" || secret.ID.Version() != version || secret.ID.Name() != "db-password" ||
			*secret.ContentType != "text/plain" || *secret.Tags["env"] != "prod" || secret.Managed != nil || secret.KID != nil ||
			!*secret.Attributes.Enabled || secret.Attributes.Created.Before(before) {
			t.Errorf("%s: %+v", name, secret)
		}
	}
	want := map[devcloud.CountKey]int{
		{Service: devcloud.ServiceVault, Host: host, Kind: "secrets/get", Status: 401}:                      1,
		{Service: devcloud.ServiceVault, Host: host, Kind: "secrets/get", Status: 200}:                      2,
		{Service: devcloud.ServiceLogin, Host: "login.microsoftonline.com", Kind: "discovery", Status: 200}: 1,
		{Service: devcloud.ServiceLogin, Host: "login.microsoftonline.com", Kind: "openid", Status: 200}:    1,
		{Service: devcloud.ServiceLogin, Host: "login.microsoftonline.com", Kind: "token", Status: 200}:     1,
		{Service: devcloud.ServiceProxy, Host: host, Kind: "connect", Status: 200}:                          1,
		{Service: devcloud.ServiceProxy, Host: "login.microsoftonline.com", Kind: "connect", Status: 200}:   1,
	}
	got := cloud.Counts()
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%+v: %d requests, want %d", key, got[key], n)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("more requests: %+v", got)
	}

	cloud.ResetCounts()
	if _, err := client.GetSecret(t.Context(), "db-password", version, nil); err != nil {
		t.Fatal(err)
	}
	if n := cloud.Count(devcloud.CountKey{}); n != 1 {
		t.Errorf("a warm request took %d", n)
	}
	r := cloud.Requests()
	if len(r) != 1 || r[0].Path != "/secrets/db-password/"+version || r[0].ClientID != clientID || r[0].Status != 200 ||
		r[0].Header.Get("Authorization") != "[redacted]" || strings.Join(r[0].Query, ",") != "api-version" || r[0].Proto != "HTTP/2.0" {
		t.Errorf("recorded: %+v", r)
	}
}

func TestVaultRefusals(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	old := vault.SetSecret("db-password", "one", devcloud.SecretOptions{})
	vault.SetSecret("off", "x", devcloud.SecretOptions{Disabled: true})
	vault.SetSecret("gone", "x", devcloud.SecretOptions{})
	if err := vault.Delete(devcloud.Secrets, "gone"); err != nil {
		t.Fatal(err)
	}
	vault.SetSecret("old-off", "x", devcloud.SecretOptions{Version: strings.Repeat("a", 32)})
	vault.SetSecret("old-off", "y", devcloud.SecretOptions{})
	if err := vault.Disable(devcloud.Secrets, "old-off", strings.Repeat("a", 32)); err != nil {
		t.Fatal(err)
	}
	options := once(t, cloud)
	client := defaultClient(t, cloud, vault)
	addIdentity(t, cloud, devcloud.Identity{ClientID: "nobody", ObjectID: "oid", Secrets: []devcloud.ClientSecret{{Value: password}}})
	nobody := secretsClient(t, vault.URL(), secretCredential(t, options, tenant, "nobody", password), options)

	const help = ". For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid="
	notFound := func(id string) vaultError {
		return vaultError{404, "SecretNotFound", "", "A secret with (name/id) " + id + " was not found in this key vault. " +
			"If you recently deleted this secret you may be able to recover it using the correct recovery command" + help + "2125182"}
	}
	for name, test := range map[string]struct {
		client        *azsecrets.Client
		name, version string
		want          vaultError
	}{
		"missing":          {client, "nothing", "", notFound("nothing")},
		"missing version":  {client, "db-password", strings.Repeat("0", 32), notFound("db-password/" + strings.Repeat("0", 32))},
		"deleted":          {client, "gone", "", notFound("gone")},
		"disabled":         {client, "off", "", vaultError{403, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret."}},
		"disabled version": {client, "old-off", strings.Repeat("a", 32), vaultError{403, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret."}},
		"bad name":         {client, "a_b", "", vaultError{400, "BadParameter", "", "The request URI contains an invalid name: a_b"}},
		"bad version":      {client, "db-password", "1", vaultError{400, "BadParameter", "", "The request URI contains an invalid version: 1"}},
		"denied": {nobody, "db-password", old, vaultError{403, "Forbidden", "ForbiddenByPolicy", "The user, group or application " +
			"'appid=nobody;oid=oid;iss=https://sts.windows.net/" + tenant + "/' does not have secrets get permission on key vault 'shop;location=westeurope'" + help + "2125287"}},
		"denied before missing": {nobody, "nothing", "", vaultError{403, "Forbidden", "ForbiddenByPolicy", "The user, group or application " +
			"'appid=nobody;oid=oid;iss=https://sts.windows.net/" + tenant + "/' does not have secrets get permission on key vault 'shop;location=westeurope'" + help + "2125287"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.client.GetSecret(t.Context(), test.name, test.version, nil)
			if got := refusalOf(t, err); got != test.want {
				t.Errorf("\n got %+v\nwant %+v", got, test.want)
			}
		})
	}
	if _, err := client.GetSecret(t.Context(), "old-off", "", nil); err != nil {
		t.Errorf("the latest version is enabled: %v", err)
	}

	vault.Deny(clientID, devcloud.SecretsGet)
	if _, err := client.GetSecret(t.Context(), "db-password", "", nil); refusalOf(t, err).Inner != "ForbiddenByPolicy" {
		t.Errorf("after Deny: %v", err)
	}
	vault.Grant(clientID, devcloud.SecretsGet)
	vault.SetFirewall(true)
	_, err := client.GetSecret(t.Context(), "db-password", "", nil)
	if got := refusalOf(t, err); got.Status != 403 || got.Inner != "ForbiddenByFirewall" ||
		!strings.HasPrefix(got.Message, "Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1\r\n") {
		t.Errorf("firewall: %+v", got)
	}
}

func TestRoleAssignments(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	vault, err := cloud.AddVault("roles", devcloud.VaultOptions{Tenant: tenant, RBAC: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = defaultClient(t, cloud, vault).GetSecret(t.Context(), "A", "", nil)
	got := refusalOf(t, err)
	if got.Status != 403 || got.Inner != "ForbiddenByRbac" ||
		!strings.HasPrefix(got.Message, "Caller is not authorized to perform action on resource.\r\n") ||
		!strings.Contains(got.Message, "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n") ||
		!strings.Contains(got.Message, "/providers/microsoft.keyvault/vaults/roles/secrets/a'\r\n") {
		t.Errorf("%+v", got)
	}
}

// A list has pages of 25, with disabled objects and without deleted ones.
func TestList(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	for i := range 60 {
		vault.SetSecret("s"+strings.Repeat("x", i), "v", devcloud.SecretOptions{Disabled: i == 7, Tags: map[string]string{"n": "1"}})
	}
	if err := vault.Delete(devcloud.Secrets, "s"); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.SetCertificate("web", devcloud.CertificateOptions{KeyType: devcloud.P256}); err != nil {
		t.Fatal(err)
	}
	client := defaultClient(t, cloud, vault)
	var names []string
	managed, disabled := 0, 0
	for pages := client.NewListSecretPropertiesPager(nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Value {
			names = append(names, item.ID.Name())
			if item.Managed != nil && *item.Managed {
				managed++
			}
			if !*item.Attributes.Enabled {
				disabled++
			}
			if item.ID.Version() != "" {
				t.Errorf("an item has a version: %s", *item.ID)
			}
		}
	}
	if len(names) != 60 || names[0] != "sx" || names[59] != "web" || managed != 1 || disabled != 1 {
		t.Errorf("%d items (%s … %s), %d managed, %d disabled", len(names), names[0], names[len(names)-1], managed, disabled)
	}
	if n := cloud.Count(devcloud.CountKey{Kind: "secrets/list", Status: 200}); n != 3 {
		t.Errorf("%d pages", n)
	}

	vault.SetSecret("sx", "again", devcloud.SecretOptions{})
	versions := 0
	for pages := client.NewListSecretPropertiesVersionsPager("sx", nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		versions += len(page.Value)
	}
	if versions != 2 {
		t.Errorf("%d versions", versions)
	}
	_, err := client.NewListSecretPropertiesVersionsPager("nothing", nil).NextPage(t.Context())
	if got := refusalOf(t, err); got.Code != "SecretNotFound" {
		t.Errorf("versions of nothing: %+v", got)
	}
}

// A list that is read while objects before the next page are deleted and added has all others, each once.
func TestListWhileObjectsComeAndGo(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	for i := range 60 {
		vault.SetSecret(fmt.Sprintf("s%02d", i), "v", devcloud.SecretOptions{})
	}
	seen := map[string]int{}
	for pages := defaultClient(t, cloud, vault).NewListSecretPropertiesPager(nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Value {
			seen[item.ID.Name()]++
		}
		if len(seen) == 25 { // after the first page: two are deleted, one is added
			vault.SetSecret("a", "v", devcloud.SecretOptions{})
			for _, name := range []string{"s01", "s02"} {
				if err := vault.Delete(devcloud.Secrets, name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 60 {
		if name := fmt.Sprintf("s%02d", i); seen[name] != 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
}

// Requests that the SDK does not send, and its errors for answers that are not JSON.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("db-password", "one", devcloud.SecretOptions{})
	options := once(t, cloud)
	token, err := secretCredential(t, options, tenant, clientID, password).GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		method, path, token string
		status              int
		want                string // the body begins with it
	}{
		{"GET", "/secrets/db-password", "", 401, `{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}`},
		{"GET", "/secrets/db-password", token.Token, 400, `{"error":{"code":"BadParameter","message":"api-version must be specified"}}`},
		{"GET", "/secrets/db-password?api-version=1999-01-01", token.Token, 400, `{"error":{"code":"BadParameter","message":"The specified version (1999-01-01) is not recognized.`},
		{"GET", "/secrets/db-password?api-version=7.4", token.Token, 200, `{"`},
		{"GET", "/secrets/db-password/?api-version=2016-10-01", token.Token, 200, `{"`},
		{"PUT", "/secrets/db-password?api-version=7.4", token.Token, 405, `{"error":{"code":"BadParameter","message":"Method PUT is not allowed.`},
		{"GET", "/?api-version=7.4", token.Token, 404, `{"error":{"code":"NotFound"`},
		{"GET", "/secrets/a/b/c?api-version=7.4", token.Token, 404, `{"error":{"code":"NotFound"`},
		{"GET", "/secrets/..?api-version=7.4", token.Token, 400, `{"error":{"code":"BadParameter","message":"The request URI contains an invalid name: .."}}`},
		{"GET", "/secrets?api-version=7.4&maxresults=26", token.Token, 400, `{"error":{"code":"BadParameter"`},
		{"GET", "/secrets?api-version=7.4&maxresults=1&$skiptoken=%21", token.Token, 400, `{"error":{"code":"BadParameter"`},
	} {
		status, header, body := get(t, options.Transport, test.method, vault.URL()+test.path, http.Header{"Authorization": {"Bearer " + test.token}})
		if status != test.status || !strings.HasPrefix(body, test.want) {
			t.Errorf("%s %s: %d %s", test.method, test.path, status, body)
		}
		if header.Get("x-ms-request-id") == "" || header.Get("x-ms-keyvault-region") != "westeurope" {
			t.Errorf("%s %s: header %v", test.method, test.path, header)
		}
		const challenge = `Bearer authorization="https://login.microsoftonline.com/` + tenant + `", resource="https://vault.azure.net"`
		if got := header.Get("WWW-Authenticate"); status == 401 && got != challenge {
			t.Errorf("challenge %s", got)
		}
	}
}

// plain is a client for what is served without TLS.
var plain = &http.Client{Timeout: time.Minute}

func get(t *testing.T, client policy.Transporter, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// The proxy serves only the names of the cloud; a vault that does not exist fails as in DNS.
func TestProxy(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	for url, want := range map[string]string{
		"https://nothing.vault.azure.net/":      "lookup nothing.vault.azure.net: no such host",
		"https://a.shop.vault.azure.net/":       "Forbidden: only CONNECT to port 443 of vaults and login hosts",
		"https://example.com/":                  "Forbidden: only CONNECT to port 443 of vaults and login hosts",
		"https://shop.vault.azure.net:8443/":    "Forbidden: only CONNECT to port 443 of vaults and login hosts",
		"https://login.microsoftonline.com:22/": "Forbidden: only CONNECT to port 443 of vaults and login hosts",
	} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		resp, err := client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: %s", url, resp.Status)
			continue
		}
		if !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if n := cloud.Count(devcloud.CountKey{Service: devcloud.ServiceProxy, Status: 403}); n != 4 {
		t.Errorf("%d refused", n)
	}
	if n := cloud.Count(devcloud.CountKey{Service: devcloud.ServiceProxy, Status: 502}); n != 1 {
		t.Errorf("%d not found", n)
	}

	// Plain requests, as of a client that sends requests for the metadata service to its proxy.
	status, _, _ := get(t, plain, http.MethodGet, cloud.ProxyURL()+"/metadata/identity/oauth2/token", nil)
	if status != http.StatusForbidden {
		t.Errorf("a plain request: %d", status)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cloud.CA()) {
		t.Error("the CA is no PEM")
	}
}

// In another cloud the vault names other hosts, and refuses the tokens of this one.
func TestClouds(t *testing.T) {
	t.Parallel()
	cloud, public := newCloud(t, devcloud.Options{CustomVaultSuffix: "vault.stack.example", CustomLoginHost: "login.stack.example"})
	options := once(t, cloud)
	token, err := secretCredential(t, options, tenant, clientID, password).GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	for suffix, login := range map[string]string{
		"vault.usgovcloudapi.net": "login.microsoftonline.us",
		"vault.azure.cn":          "login.chinacloudapi.cn",
		"vault.stack.example":     "login.stack.example",
	} {
		t.Run(suffix, func(t *testing.T) {
			vault, err := cloud.AddVault("far", devcloud.VaultOptions{Tenant: tenant, Suffix: suffix})
			if err != nil {
				t.Fatal(err)
			}
			vault.Grant(clientID)
			vault.SetSecret("a", "far away", devcloud.SecretOptions{})
			options := once(t, cloud)
			options.Cloud.ActiveDirectoryAuthorityHost = "https://" + login + "/"
			cred, err := azidentity.NewClientSecretCredential(tenant, clientID, password, &azidentity.ClientSecretCredentialOptions{
				ClientOptions: options, DisableInstanceDiscovery: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			secret, err := secretsClient(t, vault.URL(), cred, options).GetSecret(t.Context(), "a", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if *secret.Value != "far away" {
				t.Errorf("%s", *secret.Value)
			}
			status, _, body := get(t, options.Transport, http.MethodGet, vault.URL()+"/secrets/a?api-version=7.4", http.Header{"Authorization": {"Bearer " + token.Token}})
			if want := "AKV10022: Invalid audience. Expected https://" + suffix + ", found: https://vault.azure.net."; status != 401 || !strings.Contains(body, want) {
				t.Errorf("foreign token: %d %s", status, body)
			}
		})
	}
	if public.URL() != "https://"+host || cloud.Vault("https://SHOP.vault.azure.net/") != public || cloud.Vault("shop") != public || cloud.Vault("far") != nil {
		t.Error("a vault is not found under its names")
	}
}

func TestAddVaultRefuses(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	for _, test := range []struct {
		name string
		opts devcloud.VaultOptions
		want string
	}{
		{"ab", devcloud.VaultOptions{Tenant: tenant}, `devcloud: "ab" is no name of a vault: 3 to 24 letters, digits and single hyphens`},
		{"a--b", devcloud.VaultOptions{Tenant: tenant}, `devcloud: "a--b" is no name of a vault: 3 to 24 letters, digits and single hyphens`},
		{"Shop", devcloud.VaultOptions{Tenant: tenant}, "devcloud: vault shop.vault.azure.net exists already"},
		{"other", devcloud.VaultOptions{}, "devcloud: vault other needs a tenant"},
		{"other", devcloud.VaultOptions{Tenant: tenant, Suffix: "example.com"}, "devcloud: no cloud has vaults under example.com"},
	} {
		if _, err := cloud.AddVault(test.name, test.opts); err == nil || err.Error() != test.want {
			t.Errorf("%s %+v: %v", test.name, test.opts, err)
		}
	}
}
