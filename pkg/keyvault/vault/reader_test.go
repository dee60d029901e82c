package vault

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// renewing is a credential whose next token is "two".
type renewing struct{}

func (*renewing) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "two", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// A list that takes longer than its token lives goes on with the next token, and reads no page twice.
func TestAListOutlivesItsToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVaults(t, time.Now)
		const pages = 12
		ends := time.Now().Add(time.Minute)
		var sent []string
		v.options.Sender = &azure.Sender{HTTP: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
			resp := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{
				"Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/contoso", resource="https://vault.azure.net"`},
			}, Body: http.NoBody, Request: req}
			if token == "" {
				return resp, nil
			}
			if token == "one" && time.Now().After(ends) {
				t.Errorf("request %d has a token that has ended", len(sent))
			}
			<-time.After(9 * time.Second)
			sent = append(sent, token)
			next := fmt.Sprintf(`"%s/secrets?page=%d"`, shop, len(sent))
			if len(sent) == pages {
				next = "null"
			}
			resp.StatusCode, resp.Header = http.StatusOK, http.Header{"Content-Type": {"application/json"}}
			resp.Body = io.NopCloser(strings.NewReader(`{"value":[],"nextLink":` + next + `}`))
			return resp, nil
		})}}
		r := v.Reader(shop, &renewing{}, azcore.AccessToken{Token: "one", ExpiresOn: ends})
		_, _, err := r.Read(t.Context(), volume.Object{Kind: volume.KindSelection, Vault: shop, Selection: &volume.Selection{}}, 0)
		if err != nil || len(sent) != pages || sent[0] != "one" || sent[pages-1] != "two" || !slices.IsSorted(sent) {
			t.Errorf("%v; sent with %q, want the first token, then the second", err, sent)
		}
	})
}
