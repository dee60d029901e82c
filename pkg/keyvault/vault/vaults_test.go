package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answers makes the vaults answer every request with a status and optional headers.
func (v *Vaults) answers(status int, headers http.Header, asked func(*http.Request)) {
	v.options.Sender = &azure.Sender{HTTP: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		asked(req)
		return &http.Response{StatusCode: status, Header: headers.Clone(), Body: io.NopCloser(strings.NewReader("{}")), Request: req}, nil
	})}}
}

// A vault without state is dropped after the calls that have used it. One that throttles, or whose tenant is known,
// stays for an hour.
func TestTidy(t *testing.T) {
	t.Parallel()
	now := time.Now()
	v := newVaults(t, func() time.Time { return now })
	v.answers(http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}, func(*http.Request) {})
	throttled := v.Throttle("https://throttled.vault.azure.net")
	_ = throttled.Do(t.Context(), 0, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://throttled.vault.azure.net", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := v.options.Sender.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		return &azure.Answer{Service: azure.Vault, Status: resp.StatusCode}
	})
	v.Throttle("https://named.vault.azure.net")
	v.of(shop).tenant = "contoso"
	for _, step := range []struct {
		after time.Duration
		left  int
	}{{FetchTimeout, 3}, {time.Second, 2}, {idleVault - FetchTimeout - time.Second, 2}, {time.Second, 0}} {
		now = now.Add(step.after)
		if v.Tidy(); len(v.known) != step.left {
			t.Errorf("%v later %d vaults are known, want %d", step.after, len(v.known), step.left)
		}
	}
}

// Concurrent callers cause one request for a vault's tenant, and later ones cause none.
func TestChallengeIsAskedOnce(t *testing.T) {
	t.Parallel()
	v := newVaults(t, time.Now)
	var mu sync.Mutex
	asked := 0
	begun := make(chan struct{})
	v.answers(http.StatusUnauthorized, http.Header{
		"Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/Contoso", resource="https://vault.azure.net"`},
	}, func(req *http.Request) {
		<-begun
		mu.Lock()
		defer mu.Unlock()
		asked++
		if req.Header.Get("Authorization") != "" || req.URL.Path != "/secrets/web/" {
			t.Errorf("asked for %s", req.URL)
		}
	})
	var callers sync.WaitGroup
	challenge := func() {
		if tenant, err := v.Challenge(t.Context(), Request{shop, Secrets, "web", ""}); err != nil || tenant != "contoso" {
			t.Errorf("%q, %v", tenant, err)
		}
	}
	for range 20 {
		callers.Go(challenge)
	}
	close(begun)
	callers.Wait()
	challenge()
	if asked != 1 {
		t.Errorf("asked %d times, want 1", asked)
	}
}

// A request of the SDK to another host than the vault is not sent, because it has the vault's token.
func TestNoTokenLeavesItsVault(t *testing.T) {
	t.Parallel()
	v := newVaults(t, time.Now)
	asked := 0
	v.answers(http.StatusOK, nil, func(*http.Request) { asked++ })
	s := &sender{vaults: v, vault: shop}
	for url, sent := range map[string]bool{
		shop + "/secrets/web":                   true,
		shop + ":443/secrets?page=2":            true,
		shop + ":444/secrets?page=2":            false,
		"https://other.vault.azure.net/secrets": false,
		"https://evil.example/secrets":          false,
	} {
		before := asked
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer token")
		resp, err := s.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (asked > before) != sent || (err == nil) != sent {
			t.Errorf("%s: sent %t, %v; want %t", url, asked > before, err, sent)
		}
	}
}

// noCredential is a credential that must not be asked.
type noCredential struct{ name string }

func (c *noCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("the credential was asked")
}

// A reader is kept for its vault, its credential and its token only, until Tidy, and not more of them than the bound.
func TestReaders(t *testing.T) {
	t.Parallel()
	v := newVaults(t, time.Now)
	web, worker := &noCredential{"web"}, &noCredential{"worker"}
	one, two := azcore.AccessToken{Token: "one"}, azcore.AccessToken{Token: "two"}
	first := v.Reader(shop, web, one)
	if v.Reader(shop, web, one) != first {
		t.Error("made again")
	}
	if v.Reader(shop, worker, one) == first || v.Reader("https://other.vault.azure.net", web, one) == first {
		t.Error("shared by two credentials, or by two vaults")
	}
	if v.Reader(shop, web, two) == first {
		t.Error("kept for another token of the credential")
	}
	v.Tidy()
	if v.Reader(shop, web, one) == first {
		t.Error("kept after Tidy")
	}
	for i := range maxReaders {
		v.Reader(fmt.Sprintf("https://v%d.vault.azure.net", i), web, one)
	}
	if len(v.readers) > maxReaders {
		t.Errorf("%d readers are kept", len(v.readers))
	}
}

// A vault gets a token that it refuses once for each read, also from a reader that was used before. The refusal counts as the
// vault's own, because it has a challenge.
func TestARefusedTokenIsSentOnce(t *testing.T) {
	t.Parallel()
	v := newVaults(t, time.Now)
	v.of(shop).tenant = "contoso"
	var tokens []string
	challenge := http.Header{"Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/contoso", resource="https://vault.azure.net"`}}
	v.answers(http.StatusUnauthorized, challenge, func(req *http.Request) { tokens = append(tokens, req.Header.Get("Authorization")) })
	reader := v.Reader(shop, &noCredential{"web"}, azcore.AccessToken{Token: "web", ExpiresOn: time.Now().Add(time.Hour)})
	for read := 1; read <= 3; read++ {
		_, _, err := reader.Read(t.Context(), volume.Object{Kind: volume.KindSecret, Vault: shop, Name: "a"}, 0)
		answer, ok := errors.AsType[*azure.Answer](err)
		if !ok || answer.Foreign() {
			t.Errorf("read %d: %v", read, err)
		}
		if len(tokens) != read || tokens[read-1] != "Bearer web" {
			t.Errorf("read %d: %q were sent", read, tokens)
		}
	}
}
