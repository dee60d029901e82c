package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// smallVault answers a number of requests in each window of ten seconds, and refuses the others. It has all secrets but those
// whose names begin with absent-.
type smallVault struct {
	mu            sync.Mutex
	allowed, used int // in the window
	answered      int // of the vault's life
	window        time.Time
	value         string
}

func (v *smallVault) RoundTrip(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	respond := func(status int, body, name, value string) (*http.Response, error) {
		return suite.Response(req, status, body, name, value), nil
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
	v.answered++
	name := strings.Trim(strings.TrimPrefix(req.URL.Path, "/secrets/"), "/")
	if strings.HasPrefix(name, "absent-") {
		return respond(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`, "Content-Type", "application/json")
	}
	return respond(http.StatusOK, `{"value":"`+v.value+`","id":"https://shop.vault.azure.net/secrets/`+name+`/9d90276b377b4d9ea10763c153a2f015"}`,
		"Content-Type", "application/json")
}

// read returns how many values it has answered with.
func (v *smallVault) read() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.answered
}

type givenToken struct{}

func (givenToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// fair is how long the vault of limitedVolume needs for one read of each of its objects.
const limitedObjects, fair = 200, 100 * time.Second

// limitedVolume returns a vault that answers twenty requests in ten seconds, and what fetches a volume of 200 objects from it.
func limitedVolume(t *testing.T, random float64) (*smallVault, func(refresh bool) (volume.Content, error)) {
	t.Helper()
	public, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		t.Fatal(err)
	}
	vault := &smallVault{allowed: 20, value: "old"}
	client, err := keyvault.New(keyvault.Options{
		Cloud: public, Credential: givenToken{}, Transport: vault, Random: func() float64 { return random },
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []volume.Object
	for i := range limitedObjects {
		all = append(all, secret(fmt.Sprintf("object-%d", i)))
	}
	r := request(volume.Identity{Kind: volume.Managed}, all)
	r.Volume, r.RotationInterval, r.Limits = "csi-1", time.Minute, volume.Limits{Files: 1000, Bytes: 1 << 20}
	return vault, func(refresh bool) (volume.Content, error) {
		ctx, cancel := context.WithTimeout(t.Context(), r.Timeout)
		defer cancel()
		r.Refresh = refresh
		return client.Fetch(ctx, r)
	}
}

// mountLimited mounts the volume of limitedVolume, as the kubelet does.
func mountLimited(t *testing.T, fetch func(refresh bool) (volume.Content, error)) {
	t.Helper()
	began := time.Now()
	_, err := fetch(false)
	for ; err != nil && time.Since(began) < 3*fair; _, err = fetch(false) {
		if !errors.Is(err, volume.ErrUnavailable) {
			t.Fatal(err)
		}
		<-time.After(time.Second)
	}
	if err != nil {
		t.Fatalf("not mounted after %v: %v", time.Since(began), err)
	}
}

// A vault that cannot serve the interval is read as often as it allows. The volume always has all files, no object is left behind, and the
// content says that it is late.
func TestAVaultThatIsTooSmallForTheInterval(t *testing.T) {
	t.Parallel()
	const want = `secrets[0]: secret "object-0" of https://shop.vault.azure.net as managed: HTTP 429 Throttled: the vault is throttled; ` +
		"it is asked again later"
	synctest.Test(t, func(t *testing.T) {
		vault, fetch := limitedVolume(t, .5)
		mountLimited(t, fetch)
		vault.mu.Lock()
		vault.value = "new"
		vault.mu.Unlock()
		var content volume.Content
		var err error
		mounted, late := time.Now(), 0
		for time.Since(mounted) < 18*fair {
			<-time.After(75 * time.Second)
			if content, err = fetch(true); err != nil {
				t.Fatalf("a refresh after %v: %v", time.Since(mounted), err)
			}
			if len(content.Files) != limitedObjects {
				t.Fatalf("%d files, want %d", len(content.Files), limitedObjects)
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

// The refreshes of nodes that were refused together last differently, so that the kubelet's next calls, after 122 s, do not come together.
func TestALimitedRefreshTakesARandomTime(t *testing.T) {
	t.Parallel()
	longest := func(random float64) (longest time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			_, fetch := limitedVolume(t, random)
			mountLimited(t, fetch)
			for range 10 {
				<-time.After(122 * time.Second)
				began := time.Now()
				if _, err := fetch(true); err != nil {
					t.Fatal(err)
				}
				longest = max(longest, time.Since(began))
			}
		})
		return longest
	}
	// The last request may have to wait for the next window. A refresh is shorter if it has used the share of the node.
	for random, least := range map[float64]time.Duration{0: 0, .999: 20 * time.Second} {
		if took := longest(random); took < least || took > least+20*time.Second {
			t.Errorf("random number %v: the longest of ten refreshes took %v, want %v to %v", random, took, least, least+20*time.Second)
		}
	}
}
