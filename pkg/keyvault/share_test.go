package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// smallVault answers a number of requests in each window of ten seconds, and refuses the others.
type smallVault struct {
	mu            sync.Mutex
	allowed, used int
	window        time.Time
	value         string
}

func (v *smallVault) RoundTrip(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	respond := func(status int, body, name, value string) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{name: {value}},
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
		}, nil
	}
	if req.Header.Get("Authorization") == "" {
		return respond(http.StatusUnauthorized, "", "Www-Authenticate",
			`Bearer authorization="https://login.microsoftonline.com/`+tenantID+`", resource="https://vault.azure.net"`)
	}
	now := time.Now()
	if window := now.Truncate(10 * time.Second); window != v.window {
		v.window, v.used = window, 0
	}
	if v.used++; v.used > v.allowed {
		left := v.window.Add(10 * time.Second).Sub(now)
		return respond(http.StatusTooManyRequests, `{"error":{"code":"Throttled"}}`, "Retry-After", fmt.Sprint(int(left/time.Second)+1))
	}
	name := strings.Trim(strings.TrimPrefix(req.URL.Path, "/secrets/"), "/")
	return respond(http.StatusOK, `{"value":"`+v.value+`","id":"https://shop.vault.azure.net/secrets/`+name+`/9d90276b377b4d9ea10763c153a2f015"}`,
		"Content-Type", "application/json")
}

type givenToken struct{}

func (givenToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// A vault that cannot serve the interval is read as often as it allows. The volume always has all files, no object is left behind, and the
// content says that it is late.
func TestAVaultThatIsTooSmallForTheInterval(t *testing.T) {
	t.Parallel()
	const want = `secrets[0]: secret "object-0" of https://shop.vault.azure.net as managed: HTTP 429 Throttled: the vault is throttled; ` +
		"it is asked again later"
	const objects, interval, fair = 200, time.Minute, 100 * time.Second // fair: twenty requests in ten seconds
	synctest.Test(t, func(t *testing.T) {
		public, err := azure.CloudByName("AzurePublicCloud", "", "")
		if err != nil {
			t.Fatal(err)
		}
		vault := &smallVault{allowed: 20, value: "old"}
		client, err := keyvault.New(keyvault.Options{
			Cloud: public, Credential: givenToken{}, Transport: vault, Random: func() float64 { return .5 },
		})
		if err != nil {
			t.Fatal(err)
		}
		var all []volume.Object
		for i := range objects {
			all = append(all, secret(fmt.Sprintf("object-%d", i)))
		}
		r := request(volume.Identity{Kind: volume.Managed}, all)
		r.Volume, r.RotationInterval, r.Limits = "csi-1", interval, volume.Limits{Files: 1000, Bytes: 1 << 20}
		fetch := func(refresh bool) (volume.Content, error) {
			ctx, cancel := context.WithTimeout(t.Context(), r.Timeout)
			defer cancel()
			r.Refresh = refresh
			return client.Fetch(ctx, r)
		}
		began := time.Now()
		content, err := fetch(false)
		for ; err != nil && time.Since(began) < 3*fair; content, err = fetch(false) {
			if !errors.Is(err, volume.ErrUnavailable) {
				t.Fatal(err)
			}
			<-time.After(time.Second)
		}
		if err != nil {
			t.Fatalf("not mounted after %v: %v", time.Since(began), err)
		}
		vault.mu.Lock()
		vault.value = "new"
		vault.mu.Unlock()
		mounted, late := time.Now(), 0
		for time.Since(mounted) < 18*fair {
			<-time.After(75 * time.Second)
			if content, err = fetch(true); err != nil {
				t.Fatalf("a refresh after %v: %v", time.Since(mounted), err)
			}
			if len(content.Files) != objects {
				t.Fatalf("%d files, want %d", len(content.Files), objects)
			}
			if age := time.Since(content.Fetched); age > 10*fair {
				t.Errorf("the oldest object is %v old", age)
			}
			if content.Outage != nil {
				late++
				if got := content.Outage.Error(); !errors.Is(content.Outage, volume.ErrUnavailable) || got != want {
					t.Errorf("%v, want %s", got, want)
				}
			}
		}
		if late == 0 {
			t.Error("no refresh was late")
		}
		for _, file := range content.Files {
			if value := string(file.Data.Reveal()); value != "new" {
				t.Errorf("%s has the %s value after %v", file.Path, value, time.Since(mounted))
			}
		}
	})
}
