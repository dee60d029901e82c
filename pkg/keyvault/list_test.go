package keyvault_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A list that is throttled in the middle continues there. The SDK's pager would repeat the same error.
func TestAThrottledListGoesOn(t *testing.T) {
	t.Parallel()
	second := "$skiptoken=" + base64.RawURLEncoding.EncodeToString([]byte("app-24")) // as the dev cloud makes them
	for name, page := range map[string]string{"first page": "", "second page": second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.run()
			want := map[string]string{}
			for i := range 60 {
				name := fmt.Sprintf("app-%02d", i)
				w.vault.SetSecret(name, name, devcloud.SecretOptions{})
				want[name] = name
			}
			w.vault.SetSecret("other", "x", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("other"))) // so that the challenge is known
			w.ResetCounts()
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets", Query: page, Action: devcloud.Throttle, RetryAfter: time.Second, Times: 1})
			if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(selection(volume.Selection{Prefix: "app-"})))); diff != "" {
				t.Error(diff)
			}
			pages := w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 200})
			refused := w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 429})
			if pages != 3 || refused != 1 {
				t.Errorf("%d pages and %d refusals, want 3 and 1", pages, refused)
			}
		})
	}
}

// The vault gives the link to the next page. A link to another host gets no token.
func TestTheNextPageIsOfTheSameVault(t *testing.T) {
	t.Parallel()
	strange := "objects[0]: the list of secrets of https://shop.vault.azure.net as servicePrincipal " + clientID +
		": the vault gave a strange answer, it cannot be understood; check what answers under its name"
	for name, test := range map[string]struct {
		link  string
		fails string
	}{
		"as Azure writes it": {"https://shop.vault.azure.net:443/secrets?api-version=7.4&maxresults=25", ""},
		"relative":           {"/secrets?api-version=7.4&maxresults=25", ""},
		"another vault":      {"https://bank.vault.azure.net/secrets?api-version=7.4", strange},
		"another port":       {"https://shop.vault.azure.net:8443/secrets?api-version=7.4", strange},
		"without TLS":        {"http://shop.vault.azure.net:443/secrets?api-version=7.4", strange},
		"no link":            {"https://shop.vault.azure.net/%zz", strange},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.addVault("bank", tenantID).Grant(clientID)
			w.vault.SetSecret("app", "value", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("app"))) // so that the challenge is known
			w.ResetCounts()
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets", Action: devcloud.Malformed, Times: 1,
				Text: fmt.Sprintf(`{"value":[],"nextLink":%q}`, test.link)})
			content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(selection(volume.Selection{})))
			if text := errorText(err); text != test.fails {
				t.Errorf("got  %s\nwant %s", text, test.fails)
			}
			if n := w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 200}); n != 1 && test.fails != "" || n != 2 && test.fails == "" {
				t.Errorf("%d pages were read: %v", n, w.requests())
			}
			if test.fails == "" && len(content.Files) != 1 {
				t.Errorf("%d files, want the one of the next page", len(content.Files))
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
