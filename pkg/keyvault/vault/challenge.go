package vault

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

// ErrChallenge means that a vault's 401 names no tenant.
var ErrChallenge = &azure.Own{Err: errors.New("malformed challenge"), Transient: true}

var (
	challengeParameter = regexp.MustCompile(`([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|([^\s",]+))`)
	tenantName         = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$`)
)

// Challenge returns the tenant that issues the tokens for a vault. If it is unknown, it requests the object without a
// token. Concurrent callers share one request, and each waits until its own context ends. The error is reduced, see
// [azure.Reduce].
// https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
func (v *Vaults) Challenge(ctx context.Context, r Request) (tenant string, err error) {
	if tenant, ok := v.Tenant(r.Vault); ok {
		return tenant, nil
	}
	asked := v.challenges.DoChan(r.Vault, func() (any, error) {
		if tenant, ok := v.Tenant(r.Vault); ok {
			return tenant, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FetchTimeout)
		defer cancel()
		if err := v.askChallenge(ctx, r); err != nil {
			return "", err
		}
		tenant, ok := v.Tenant(r.Vault)
		if !ok {
			return "", ErrChallenge
		}
		return tenant, nil
	})
	select {
	case result := <-asked:
		tenant, _ := result.Val.(string)
		return tenant, result.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// askChallenge sends a request without a token, so that the vault answers 401. The sender reads the challenge.
func (v *Vaults) askChallenge(ctx context.Context, r Request) error {
	version := cmp.Or(v.options.APIVersion, "7.4")
	options := v.clientOptions(r.Vault)
	options.APIVersion = ""
	pipeline := runtime.NewPipeline("keyvault", "", runtime.PipelineOptions{}, &options)
	return v.do(ctx, r.Vault, func(ctx context.Context) error {
		req, err := runtime.NewRequest(ctx, http.MethodGet, r.Vault+r.path()+"?api-version="+url.QueryEscape(version))
		if err != nil {
			return err
		}
		resp, err := pipeline.Do(req) //nolint:bodyclose // Drain closes it
		if err != nil {
			return err
		}
		defer runtime.Drain(resp)
		switch {
		case resp.StatusCode == http.StatusUnauthorized:
			return nil
		case resp.StatusCode < http.StatusMultipleChoices: // a vault must not answer without a token
			return azure.ErrStrange
		default:
			return runtime.NewResponseError(resp)
		}
	})
}

// rewrite stores the tenant of a challenge, and replaces the challenge by a canonical one. It removes a malformed
// header: the SDK panics on some, and without a header it just reports the 401. It also removes the header if the
// request had a token: the SDK would only send the request again with the same token.
func (v *Vaults) rewrite(vault string, req *http.Request, resp *http.Response) {
	header := resp.Header.Get("WWW-Authenticate")
	resp.Header.Del("WWW-Authenticate")
	resp.Header.Del(azure.ChallengeHeader)
	if claims, ok := claimsChallenge(header); ok {
		resp.Header.Set("WWW-Authenticate", claims)
		resp.Header.Set(azure.ChallengeHeader, "claims")
		return
	}
	tenant, err := parseChallenge(header, v.options.Cloud.VaultSuffix)
	if err != nil {
		return
	}
	resp.Header.Set(azure.ChallengeHeader, "tenant")
	if req.Header.Get("Authorization") == "" {
		resp.Header.Set("WWW-Authenticate", v.challenge(tenant))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of(vault).tenant = tenant
}

// parameters reads the first Bearer challenge of a header. Vaults and compatible services differ in quotes, commas
// and spaces; all of these are accepted.
func parameters(header string) map[string]string {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	found := map[string]string{}
	for _, match := range challengeParameter.FindAllStringSubmatch(rest, -1) {
		name := strings.ToLower(match[1])
		if _, again := found[name]; !again {
			found[name] = match[2] + match[3]
		}
	}
	return found
}

// parseChallenge reads the tenant from the header of a vault whose cloud has the suffix. A challenge that names
// another resource is malformed too: the vault must not get a token for it.
func parseChallenge(header, suffix string) (tenant string, err error) {
	found := parameters(header)
	u, err := url.Parse(cmp.Or(found["authorization"], found["authorization_uri"]))
	if err != nil || u.Scheme != "https" {
		return "", ErrChallenge
	}
	tenant, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !tenantName.MatchString(tenant) {
		return "", ErrChallenge
	}
	r, err := url.Parse(cmp.Or(found["resource"], strings.TrimSuffix(found["scope"], "/.default")))
	if err != nil || !strings.EqualFold(r.Scheme, "https") || !strings.EqualFold(r.Host, suffix) || strings.Trim(r.Path, "/") != "" {
		return "", ErrChallenge
	}
	return strings.ToLower(tenant), nil
}

// challenge returns the canonical header, which the SDK is known to parse. The SDK reads only the tenant of the
// authority.
func (v *Vaults) challenge(tenant string) string {
	return fmt.Sprintf(`Bearer authorization="https://login.invalid/%s", resource="%s"`, tenant, v.options.Cloud.Resource())
}

// challengeResponse returns a 401 as the vault would answer req.
func (v *Vaults) challengeResponse(req *http.Request, tenant string) *http.Response {
	return &http.Response{
		Status: "401 Unauthorized", StatusCode: http.StatusUnauthorized,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Www-Authenticate": {v.challenge(tenant)}},
		Body:    http.NoBody,
		Request: req,
	}
}

// claimsChallenge returns the header of a continuous access evaluation: the vault requires a token with certain
// claims.
// https://learn.microsoft.com/entra/identity-platform/claims-challenge
func claimsChallenge(header string) (string, bool) {
	found := parameters(header)
	claims := found["claims"]
	if _, err := base64.StdEncoding.DecodeString(claims); err != nil || claims == "" || found["error"] != "insufficient_claims" {
		return "", false
	}
	return fmt.Sprintf(`Bearer error="insufficient_claims", claims="%s"`, claims), true
}
