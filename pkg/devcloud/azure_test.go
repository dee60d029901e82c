package devcloud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// What the tests of this file expect was recorded from Key Vault, Entra ID and the metadata service. Sentences in the
// texts are quotes.

// answers reads from a vault as its identity does.
func answers(t *testing.T, cloud *devcloud.Cloud, vault *devcloud.Vault) func(path string) (int, http.Header, string) {
	t.Helper()
	options := once(t, cloud)
	token, err := secretCredential(t, options, tenant, clientID, password).GetToken(t.Context(), vaultScope)
	if err != nil {
		t.Fatal(err)
	}
	return func(path string) (int, http.Header, string) {
		return get(t, options.Transport, http.MethodGet, vault.URL()+path, http.Header{"Authorization": {"Bearer " + token.Token}})
	}
}

// members are the names in a JSON object, sorted.
func members(t *testing.T, body string) string {
	t.Helper()
	object := map[string]any{}
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// What is absent in an object is no member of its JSON.
func TestMembersAsRecorded(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("plain", "x", devcloud.SecretOptions{})
	vault.SetSecret("tagged", "x", devcloud.SecretOptions{Tags: map[string]string{"tag": "value"}, ContentType: "text/plain"})
	for name, opts := range map[string]devcloud.CertificateOptions{
		"issued":  {KeyType: devcloud.P256, ContentType: devcloud.PEMFile},
		"pending": {KeyType: devcloud.P256, Pending: true},
	} {
		if _, err := vault.SetCertificate(name, opts); err != nil {
			t.Fatal(err)
		}
	}
	ask := answers(t, cloud, vault)
	for path, want := range map[string]struct {
		status  int
		members string
	}{
		"/secrets/plain/":               {200, "attributes id value"},
		"/secrets/tagged/":              {200, "attributes contentType id tags value"},
		"/secrets/issued/":              {200, "attributes contentType id kid managed value"},
		"/certificates/issued/":         {200, "attributes cer id kid pending policy sid x5t"},
		"/certificates/pending/":        {200, "attributes id pending policy"},
		"/keys/issued/":                 {200, "attributes key managed"},
		"/secrets/pending/":             {404, "error"},
		"/certificates/none/versions":   {200, "nextLink value"},
		"/secrets/plain/versions":       {200, "nextLink value"},
		"/certificates/issued/versions": {200, "nextLink value"},
	} {
		status, header, body := ask(path + "?api-version=7.4")
		if got := members(t, body); status != want.status || got != want.members {
			t.Errorf("%s: %d %s, want %d %s", path, status, got, want.status, want.members)
		}
		if got := header.Get("x-ms-keyvault-network-info"); got != "conn_type=Ipv4;addr=192.0.2.1;act_addr_fam=InterNetwork;" {
			t.Errorf("%s: network info %q", path, got)
		}
	}
	if _, _, body := ask("/certificates/pending/?api-version=7.4"); !strings.Contains(body, `"enabled":false`) || !strings.Contains(body, `/certificates/pending/pending"`) {
		t.Errorf("pending: %s", body)
	}
}

// A version that is not issued yet is not the latest one while another is there.
func TestAPendingVersion(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	var ids []string
	for _, pending := range []bool{false, true} {
		made, err := vault.SetCertificate("web", devcloud.CertificateOptions{KeyType: devcloud.P256, Pending: pending})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, made.Version)
	}
	ask := answers(t, cloud, vault)
	for path, want := range map[string]string{"/certificates/web/": ids[0], "/secrets/web/": ids[0], "/certificates/web/" + ids[1]: ids[1]} {
		if _, _, body := ask(path + "?api-version=7.4"); !strings.Contains(body, "/web/"+want) {
			t.Errorf("%s: %s, want version %s", path, body, want)
		}
	}
}

// A page that is not full may have a next one. The last one has an empty link, and no other has.
func TestPagesAsRecorded(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	for i := range 168 {
		vault.SetSecret(fmt.Sprintf("s%03d", i), "x", devcloud.SecretOptions{})
	}
	ask := answers(t, cloud, vault)
	for query, want := range map[string][]int{
		"api-version=7.3":               {24, 25, 25, 25, 23, 25, 21},
		"api-version=7.3&maxresults=10": {10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 8},
	} {
		var sizes []int
		for link := "/secrets?" + query; link != ""; {
			_, _, body := ask(link)
			var page struct {
				Value    []any
				NextLink *string
			}
			if err := json.Unmarshal([]byte(body), &page); err != nil || !strings.Contains(body, `"nextLink":`) {
				t.Fatalf("%v: %s", err, body)
			}
			sizes = append(sizes, len(page.Value))
			link = ""
			if page.NextLink == nil {
				continue
			}
			rest, ok := strings.CutPrefix(*page.NextLink, vault.URL()+":443")
			if !ok || !strings.HasPrefix(rest, "/secrets?api-version=7.3&$skiptoken=") || strings.Contains(rest, "maxresults") != strings.Contains(query, "maxresults") {
				t.Errorf("the next page is at %s", *page.NextLink)
			}
			link = rest
		}
		if !slices.Equal(sizes, want) {
			t.Errorf("%s: pages of %v, want %v", query, sizes, want)
		}
	}
}

func TestRefusalsAsRecorded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(*devcloud.Cloud, *devcloud.Vault)
		status  int
		says    []string
	}{
		"public access is off": {func(_ *devcloud.Cloud, v *devcloud.Vault) { v.SetPublicAccess(false) }, 403, []string{
			`"code":"ForbiddenByConnection"`, `Public network access is disabled and request is not from a trusted service nor via an approved private link.`,
		}},
		"and on again": {func(_ *devcloud.Cloud, v *devcloud.Vault) { v.SetPublicAccess(false); v.SetPublicAccess(true) }, 200, []string{`"value":"x"`}},
		"unknown key": {func(c *devcloud.Cloud, _ *devcloud.Vault) {
			_, _ = c.Inject(devcloud.Fault{Action: devcloud.UnknownKey, Service: devcloud.ServiceVault})
		}, 401, []string{`"code":"Unauthorized"`, `AKV10046: Unable to resolve the key used for signature validation.`}},
		"a page of a proxy": {func(c *devcloud.Cloud, _ *devcloud.Vault) {
			_, _ = c.Inject(devcloud.Fault{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Status: 404, Text: "<html>", ContentType: "text/html"})
		}, 404, []string{"<html>"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, vault := newCloud(t, devcloud.Options{})
			vault.SetSecret("a", "x", devcloud.SecretOptions{})
			ask := answers(t, cloud, vault)
			test.prepare(cloud, vault)
			status, header, body := ask("/secrets/a/?api-version=7.4")
			if status != test.status {
				t.Errorf("%d %s", status, body)
			}
			for _, text := range test.says {
				if !strings.Contains(body, text) {
					t.Errorf("%s does not say %s", body, text)
				}
			}
			if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer authorization=") {
				t.Errorf("no challenge: %v", header)
			}
		})
	}
}

// Entra ID fetches the keys of an issuer only after the federated credential matches.
func TestAnIssuerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	issuer := cloud.NewIssuer("https://issuer.example/")
	const id = "99999999-0000-0000-0000-000000000001"
	err := cloud.AddIdentity(devcloud.Identity{Tenant: tenant, ClientID: id, Federated: []devcloud.FederatedCredential{
		{Issuer: issuer.URL(), Subject: "system:serviceaccount:shop:web"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := issuer.Token(devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: "web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, reachable := range []bool{false, true} {
		cloud.SetIssuerReachable(issuer.URL(), reachable)
		_, err := assertionCredential(t, once(t, cloud), id, token).GetToken(t.Context(), vaultScope)
		if reachable {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		got := loginRefusal(t, err)
		if got.Status != 400 || got.Code != 90061 || got.Error != "invalid_request" || !strings.HasPrefix(got.Text, "AADSTS90061: Request to External OIDC endpoint failed.") {
			t.Errorf("%+v", got)
		}
	}
}
