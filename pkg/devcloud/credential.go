package devcloud

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// assertionType is the only type of client assertion (RFC 7523, section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func tokenForm(r *http.Request) (url.Values, *loginError) {
	if r.Method != http.MethodPost {
		return nil, &loginError{http.StatusMethodNotAllowed, "invalid_request", 900561,
			"The endpoint only accepts POST requests. Received a " + r.Method + " request."}
	}
	r.Body = http.MaxBytesReader(nil, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		return nil, &loginError{http.StatusBadRequest, "invalid_request", 900144, "The request body cannot be read."}
	}
	form := r.PostForm
	if g := form.Get("grant_type"); g != "client_credentials" {
		if g == "" {
			return nil, missing("grant_type")
		}
		return nil, &loginError{http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '" + g + "'."}
	}
	if form.Get("client_id") == "" {
		return nil, missing("client_id")
	}
	return form, nil
}

// checkCredential verifies the credential of a client and returns the claim appidacr. The caller must hold c.mu.
func (c *Cloud) checkCredential(id *Identity, form url.Values, r *http.Request) (string, *loginError) {
	if secret := form.Get("client_secret"); secret != "" {
		return "1", c.checkSecret(id, secret)
	}
	assertion := form.Get("client_assertion")
	switch {
	case assertion == "":
		return "", &loginError{http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."}
	case form.Get("client_assertion_type") != assertionType:
		return "", missing("client_assertion_type")
	}
	claims := &jwt.RegisteredClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, claims); err != nil {
		return "", &loginError{http.StatusBadRequest, "invalid_request", 50027, "JWT token is invalid or malformed."}
	}
	if claims.Issuer == id.ClientID {
		return "2", c.checkCertificate(id, assertion, "https://"+hostOf(r)+r.URL.Path)
	}
	return "2", c.checkFederated(id, assertion, claims)
}

// proof describes the credential that a client has sent, after it was verified.
func (id *Identity) proof(form url.Values) string {
	if secret := form.Get("client_secret"); secret != "" {
		return fmt.Sprintf("secret %d", slices.IndexFunc(id.Secrets, func(s ClientSecret) bool { return s.Value == secret }))
	}
	claims := &jwt.RegisteredClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(form.Get("client_assertion"), claims); err != nil || claims.Issuer == id.ClientID {
		return "certificate"
	}
	return claims.Subject
}

func (c *Cloud) checkSecret(id *Identity, secret string) *loginError {
	for _, s := range id.Secrets {
		if s.Value != secret {
			continue
		}
		if s.Expires.IsZero() || c.now().Before(s.Expires) {
			return nil
		}
		return &loginError{http.StatusUnauthorized, "invalid_client", 7000222, "The provided client secret keys for app '" + id.ClientID +
			"' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, " +
			"or consider using certificate credentials for added security: https://aka.ms/certCreds."}
	}
	return &loginError{http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being sent in the " +
		"request is the client secret value, not the client secret ID, for a secret added to app '" + id.ClientID + "'."}
}

// checkFederated compares issuer, subject and audience with the identity's credentials, in this order, and then
// verifies signature and time. The caller must hold c.mu.
func (c *Cloud) checkFederated(id *Identity, assertion string, claims *jwt.RegisteredClaims) *loginError {
	left := slices.Clone(id.Federated)
	if len(left) == 0 {
		return &loginError{http.StatusUnauthorized, "invalid_client", 70025, "The client '" + id.ClientID + "'(" + id.Name +
			") has no configured federated identity credentials."}
	}
	for _, check := range []struct {
		code        int
		what, value string
		matches     func(FederatedCredential) bool
	}{
		{700211, "issuer", claims.Issuer, func(f FederatedCredential) bool { return f.Issuer == claims.Issuer }},
		{700213, "subject", claims.Subject, func(f FederatedCredential) bool { return f.Subject == claims.Subject }},
		{700212, "audience", audience(claims), func(f FederatedCredential) bool { return slices.Contains(claims.Audience, f.Audience) }},
	} {
		left = slices.DeleteFunc(left, func(f FederatedCredential) bool { return !check.matches(f) })
		if len(left) == 0 && check.what == "subject" && id.trustsIgnoringCase(claims) {
			return &loginError{http.StatusUnauthorized, "invalid_client", 7002138, "No matching federated identity record found for presented assertion subject '" +
				claims.Subject + "'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison. " +
				"Check your federated identity credential Subject, Audience and Issuer against the presented assertion. " +
				"See documentation at: https://learn.microsoft.com/entra/workload-id/workload-identity-federation."}
		}
		if len(left) == 0 {
			return &loginError{http.StatusUnauthorized, "invalid_client", check.code, "No matching federated identity record found for presented assertion " +
				check.what + " '" + check.value + "'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. " +
				"https://learn.microsoft.com/entra/workload-id/workload-identity-federation"}
		}
	}
	if c.unreachable[claims.Issuer] {
		return &loginError{http.StatusBadRequest, "invalid_request", 90061, "Request to External OIDC endpoint failed."}
	}
	keys := c.issuers[claims.Issuer]
	if keys == nil {
		return &loginError{http.StatusBadRequest, "invalid_request", 50166, "Request to External OIDC endpoint failed."}
	}
	_, err := jwt.ParseWithClaims(assertion, &jwt.RegisteredClaims{}, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if key := keys[kid]; key != nil {
			return key()
		}
		return nil, errUnknownKey
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(c.now))
	return c.assertionError(err, claims)
}

// trustsIgnoringCase reports whether a credential differs from the token in the case of the subject alone.
func (id *Identity) trustsIgnoringCase(claims *jwt.RegisteredClaims) bool {
	return slices.ContainsFunc(id.Federated, func(f FederatedCredential) bool {
		return f.Issuer == claims.Issuer && strings.EqualFold(f.Subject, claims.Subject)
	})
}

func audience(claims *jwt.RegisteredClaims) string {
	if len(claims.Audience) == 0 {
		return ""
	}
	return claims.Audience[0]
}

func (c *Cloud) assertionError(err error, claims *jwt.RegisteredClaims) *loginError {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		at := func(t *jwt.NumericDate) string {
			if t == nil {
				return "(none)"
			}
			return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
		}
		return &loginError{http.StatusUnauthorized, "invalid_client", 700024, "Client assertion is not within its valid time range. Current time: " +
			c.now().UTC().Format("2006-01-02T15:04:05.0000000Z") + ", assertion valid from " + at(claims.NotBefore) + ", expiry time of assertion " +
			at(claims.ExpiresAt) + ". Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials ."}
	case errors.Is(err, errUnknownKey):
		return &loginError{http.StatusBadRequest, "invalid_request", 50013, "Assertion failed signature validation. [Reason - The key was not found.]"}
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return &loginError{http.StatusBadRequest, "invalid_request", 50013, "Assertion failed signature validation. [Reason - The provided signature value did not match the expected signature value.]"}
	}
	return &loginError{http.StatusBadRequest, "invalid_request", 50027, "JWT token is invalid or malformed."}
}

// isThumbprint accepts base64url, as in RFC 7515, and base64, as MSAL sends it.
func isThumbprint(header any, sum []byte) bool {
	return header == base64.RawURLEncoding.EncodeToString(sum) || header == base64.StdEncoding.EncodeToString(sum)
}

// checkCertificate verifies an assertion that the client has signed with the key of one of its certificates.
func (c *Cloud) checkCertificate(id *Identity, assertion, endpoint string) *loginError {
	claims := &jwt.RegisteredClaims{}
	expired := false
	_, err := jwt.ParseWithClaims(assertion, claims, func(t *jwt.Token) (any, error) {
		trusted := id.Certificates
		if leaf := c.trustedByName(id, t.Header["x5c"]); leaf != nil {
			trusted = append(slices.Clone(trusted), leaf)
		}
		for _, cert := range trusted {
			one, two := thumbprint(cert.Raw), sha256.Sum256(cert.Raw)
			if isThumbprint(t.Header["x5t"], one[:]) || isThumbprint(t.Header["x5t#S256"], two[:]) {
				expired = c.now().After(cert.NotAfter)
				return crypto.PublicKey(cert.PublicKey), nil
			}
		}
		return nil, errUnknownKey
	}, jwt.WithValidMethods([]string{"RS256", "PS256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(c.now),
		jwt.WithSubject(id.ClientID), jwt.WithLeeway(5*time.Minute))
	switch {
	case errors.Is(err, errUnknownKey):
		return &loginError{http.StatusUnauthorized, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found.]"}
	case err == nil && expired:
		return &loginError{http.StatusUnauthorized, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is expired on application. [Reason - The key used is expired.]"}
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return &loginError{http.StatusUnauthorized, "invalid_client", 700027, "Client assertion contains an invalid signature. [Reason - The provided signature value did not match the expected signature value.]"}
	case err == nil && !slices.Contains(claims.Audience, endpoint):
		return &loginError{http.StatusUnauthorized, "invalid_client", 700023, "Client assertion audience claim does not match Realm issuer. Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials ."}
	}
	return c.assertionError(err, claims)
}

// trustedByName returns the leaf of the chain in the header x5c (RFC 7515, section 4.1.6) if the identity trusts its name.
func (c *Cloud) trustedByName(id *Identity, x5c any) *x509.Certificate {
	entries, _ := x5c.([]any)
	var chain []*x509.Certificate
	for _, entry := range entries {
		text, _ := entry.(string)
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil
	}
	for _, name := range id.TrustedNames {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		for _, root := range name.Roots {
			roots.AddCert(root)
		}
		for _, cert := range chain[1:] {
			intermediates.AddCert(cert)
		}
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: c.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err == nil && chain[0].Subject.CommonName == name.CommonName {
			return chain[0]
		}
	}
	return nil
}
