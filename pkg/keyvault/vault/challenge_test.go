package vault

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

const shop = "https://shop.vault.azure.net"

func newVaults(tb testing.TB, now func() time.Time) *Vaults {
	tb.Helper()
	cloud, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		tb.Fatal(err)
	}
	v, err := New(Options{Cloud: cloud, Memory: azure.NewMemory(), Now: now, After: time.After}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestParseChallenge(t *testing.T) {
	t.Parallel()
	const suffix = "vault.azure.net"
	for header, want := range map[string]string{
		`Bearer authorization="https://login.microsoftonline.com/72f988bf-0000", resource="https://vault.azure.net"`:          "72f988bf-0000",
		`Bearer authorization="https://login.windows.net/72F988BF-0000", scope="https://vault.azure.net/.default"`:            "72f988bf-0000",
		`Bearer authorization="https://login.microsoftonline.com/contoso.com" resource="https://vault.azure.net/"`:            "contoso.com",
		`bearer authorization=https://login.microsoftonline.com/contoso.com,resource=https://VAULT.azure.net`:                 "contoso.com",
		`Bearer realm="", authorization_uri="https://login.microsoftonline.com/t/oauth2", resource="https://vault.azure.net"`: "t",
		``:      "",
		`Basic`: "",
		`Bearer authorization="login", resource="https://vault.azure.net"`:                                          "",
		`Bearer authorization="https://login", resource="https://vault.azure.net"`:                                  "",
		`Bearer authorization="https://login/", resource="https://vault.azure.net"`:                                 "",
		`Bearer authorization="http://login/t", resource="https://vault.azure.net"`:                                 "",
		`Bearer authorization="https://login/a%0ab", resource="https://vault.azure.net"`:                            "",
		`Bearer authorization="https://login/t"`:                                                                    "",
		`Bearer authorization="https://login/t", resource="https://graph.microsoft.com"`:                            "",
		`Bearer authorization="https://login/t", resource="https://vault.azure.net.evil.example"`:                   "",
		`Bearer authorization="https://login/t", resource="https://user@vault.azure.net:444/x"`:                     "",
		`Basic authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`:             "",
		`Bearer authorization="https://login/` + strings.Repeat("x", 300) + `", resource="https://vault.azure.net"`: "",
	} {
		tenant, err := parseChallenge(header, suffix)
		if tenant != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", header, tenant, err, want)
		}
	}
}

// Whatever a vault sends, the SDK sees only headers that this package has written.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer authorization="https://login.microsoftonline.com/72f988bf", resource="https://vault.azure.net"`)
	f.Add(`Bearer authorization="login", resource="https://vault.azure.net"`)
	f.Add(`Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="`)
	f.Add(`Bearer error="insufficient_claims", claims="%"`)
	f.Add(`PoP x=y, Bearer authorization=`)
	f.Fuzz(func(t *testing.T, header string) {
		v := newVaults(t, time.Now)
		resp := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {header}}}
		v.rewrite(shop, &http.Request{}, resp)
		tenant, known := v.Tenant(shop)
		rewritten := resp.Header.Get("WWW-Authenticate")
		switch {
		case known && rewritten != v.challenge(tenant):
			t.Errorf("%q became %q", header, rewritten)
		case known:
			if again, err := parseChallenge(rewritten, "vault.azure.net"); err != nil || again != tenant {
				t.Errorf("%q is read as %v, %v", rewritten, again, err)
			}
			if parts := strings.Split(rewritten, "/"); len(parts) < 4 { // as the SDK parses it
				t.Errorf("%q would make the SDK panic", rewritten)
			}
		case rewritten != "" && !strings.HasPrefix(rewritten, `Bearer error="insufficient_claims", claims="`):
			t.Errorf("%q became %q", header, rewritten)
		}
	})
}
