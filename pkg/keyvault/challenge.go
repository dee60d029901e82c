package keyvault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// challenge is what a vault says in the WWW-Authenticate header of a 401: who issues the tokens that it accepts.
// https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
type challenge struct {
	tenant   string // GUID or domain
	resource string // "https://vault.azure.net"
}

var errMalformedChallenge = errors.New("malformed challenge")

var (
	challengeParameter = regexp.MustCompile(`([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|([^\s",]+))`)
	tenantName         = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$`)
)

// parameters reads the first Bearer challenge of a header. Vaults and the clouds' look-alikes differ in quotes,
// commas and spaces; all of these are taken.
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

// parseChallenge reads the header of a vault of a cloud whose vaults live under suffix. A challenge that names another
// resource is malformed too: a token for that resource is none of the vault's business.
func parseChallenge(header, suffix string) (challenge, error) {
	found := parameters(header)
	authority := found["authorization"]
	if authority == "" {
		authority = found["authorization_uri"]
	}
	u, err := url.Parse(authority)
	if err != nil || u.Scheme != "https" {
		return challenge{}, errMalformedChallenge
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !tenantName.MatchString(tenant) {
		return challenge{}, errMalformedChallenge
	}
	resource := found["resource"]
	if resource == "" {
		resource = strings.TrimSuffix(found["scope"], "/.default")
	}
	r, err := url.Parse(resource)
	if err != nil || !strings.EqualFold(r.Scheme, "https") || !strings.EqualFold(r.Host, suffix) || strings.Trim(r.Path, "/") != "" {
		return challenge{}, errMalformedChallenge
	}
	return challenge{tenant: strings.ToLower(tenant), resource: "https://" + suffix}, nil
}

// header writes the challenge in the one form that the SDK certainly understands.
func (c challenge) header() string {
	return fmt.Sprintf(`Bearer authorization="https://login.invalid/%s", resource="%s"`, c.tenant, c.resource)
}

// response is the 401 with which the vault would answer req.
func (c challenge) response(req *http.Request) *http.Response {
	return &http.Response{
		Status: "401 Unauthorized", StatusCode: http.StatusUnauthorized,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Www-Authenticate": {c.header()}},
		Body:    io.NopCloser(strings.NewReader("")),
		Request: req,
	}
}

// claimsChallenge gives the header of a continuous access evaluation: the vault wants a token with certain claims.
// https://learn.microsoft.com/entra/identity-platform/claims-challenge
func claimsChallenge(header string) (string, bool) {
	found := parameters(header)
	claims := found["claims"]
	if _, err := base64.StdEncoding.DecodeString(claims); err != nil || claims == "" || found["error"] != "insufficient_claims" {
		return "", false
	}
	return fmt.Sprintf(`Bearer error="insufficient_claims", claims="%s"`, claims), true
}

// challenges remembers what each vault said last, so that a vault is asked once and not once for each of the SDK's clients.
type challenges struct {
	suffix string
	now    func() time.Time
	ask    func(ctx context.Context, vault, path string) error // without a token; rewrite sees the answer
	flight singleflight.Group

	mu   sync.Mutex
	seen map[string]*idle[challenge]
}

func (c *challenges) known(vault string) (challenge, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry, ok := c.seen[vault]; ok {
		return entry.use(c.now()), true
	}
	return challenge{}, false
}

// rewrite remembers the challenge of a 401 and puts our own wording in its place. A header that is no challenge is
// taken out: the SDK panics on some of them, and without a header it just reports the 401.
func (c *challenges) rewrite(vault string, resp *http.Response) {
	header := resp.Header.Get("WWW-Authenticate")
	resp.Header.Del("WWW-Authenticate")
	if claims, ok := claimsChallenge(header); ok {
		resp.Header.Set("WWW-Authenticate", claims)
		return
	}
	said, err := parseChallenge(header, c.suffix)
	if err != nil {
		return
	}
	resp.Header.Set("WWW-Authenticate", said.header())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[vault] = &idle[challenge]{value: said, used: c.now()}
}

// of gives the challenge of a vault, asking for the object at path if need be. However many ask at the same time, the
// vault is asked once; each waits no longer than its own context.
func (c *challenges) of(ctx context.Context, vault, path string) (challenge, error) {
	if said, ok := c.known(vault); ok {
		return said, nil
	}
	asked := c.flight.DoChan(vault, func() (any, error) {
		if said, ok := c.known(vault); ok {
			return said, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
		defer cancel()
		if err := guarded(func() error { return c.ask(ctx, vault, path) }); err != nil {
			return nil, err
		}
		said, ok := c.known(vault)
		if !ok {
			return nil, errMalformedChallenge
		}
		return said, nil
	})
	select {
	case result := <-asked:
		if result.Err != nil {
			return challenge{}, result.Err
		}
		return result.Val.(challenge), nil
	case <-ctx.Done():
		return challenge{}, ctx.Err()
	}
}

func (c *challenges) sweep(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sweep(c.seen, before)
}
