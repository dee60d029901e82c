package login

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

// The endpoints of Entra ID are known, those of other authorities are requested. The cloud's authority gets every
// such request, whatever host the SDK chooses.
func TestEndpointsOfTheAuthority(t *testing.T) {
	t.Parallel()
	const tenant, question = "/11111111-0000-0000-0000-000000000001", "/v2.0/.well-known/openid-configuration"
	for _, test := range []struct {
		host, url string
		sent      string // empty: answered here
	}{
		{"login.microsoftonline.com", "https://login.microsoftonline.com" + tenant + question, ""},
		{"login.microsoftonline.com", "https://westeurope.login.microsoft.com" + tenant + question, ""},
		{"login.microsoftonline.us", "https://login.microsoftonline.us" + tenant + question, ""},
		{"login.microsoftonline.com", "https://login.microsoftonline.com/shop.example.com" + question,
			"https://login.microsoftonline.com/shop.example.com" + question},
		{"login.chinacloudapi.cn", "https://login.chinacloudapi.cn" + tenant + question, "https://login.chinacloudapi.cn" + tenant + question},
		{"login.example.com", "https://westeurope.login.microsoft.com" + tenant + question, "https://login.example.com" + tenant + question},
		{"adfs.example.com", "https://adfs.example.com/adfs/.well-known/openid-configuration", "https://adfs.example.com/adfs/.well-known/openid-configuration"},
		{"login.microsoftonline.com", "https://login.microsoftonline.com" + tenant + "/oauth2/v2.0/token", "https://login.microsoftonline.com" + tenant + "/oauth2/v2.0/token"},
	} {
		sent := ""
		s := &authoritySender{host: test.host, Sender: &azure.Sender{HTTP: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			sent = req.URL.String()
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || sent != test.sent {
			t.Errorf("%s at %s: sent %q, want %q (%v)", test.url, test.host, sent, test.sent, err)
		}
		if test.sent != "" {
			continue
		}
		var answered map[string]string
		root := "https://" + test.host + tenant
		want := map[string]string{
			"authorization_endpoint": root + "/oauth2/v2.0/authorize", "token_endpoint": root + "/oauth2/v2.0/token", "issuer": root + "/v2.0",
		}
		if err := json.Unmarshal(body, &answered); err != nil || !maps.Equal(answered, want) {
			t.Errorf("%s at %s: %+v, %v, want %+v", test.url, test.host, answered, err, want)
		}
	}
}
