package devcloud_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

const (
	workload = "33333333-3333-4333-8333-333333333333"
	cluster  = "https://oidc.example/cluster/"
)

var vaultScope = policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}

// loginError is the error answer of Entra ID as a client reads it; the text without its trace.
type loginError struct {
	Status, Code int
	Error, Text  string
}

var trace = regexp.MustCompile(` Trace ID: [0-9a-f-]{36} Correlation ID: [0-9a-f-]{36} Timestamp: \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$`)

func loginRefusal(t *testing.T, err error) loginError {
	t.Helper()
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil {
		t.Fatalf("no answer of Entra ID but %v", err)
	}
	body, err := io.ReadAll(failed.RawResponse.Body)
	if err != nil {
		t.Fatal(err)
	}
	return parseLoginError(t, failed.RawResponse.StatusCode, body)
}

func parseLoginError(t *testing.T, status int, body []byte) loginError {
	t.Helper()
	var parsed struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Codes       []int  `json:"error_codes"`
		TraceID     string `json:"trace_id"`
	}
	if err := json.Unmarshal(body, &parsed); err != nil || len(parsed.Codes) != 1 || parsed.TraceID == "" {
		t.Fatalf("%s: %v", body, err)
	}
	if !trace.MatchString(parsed.Description) {
		t.Errorf("no trace at the end of %q", parsed.Description)
	}
	return loginError{status, parsed.Codes[0], parsed.Error, trace.ReplaceAllString(parsed.Description, "")}
}

func TestClientSecret(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	addIdentity(t, cloud, devcloud.Identity{ClientID: "expired", Secrets: []devcloud.ClientSecret{{Value: password, Expires: time.Now().Add(-time.Hour)}}})
	for name, test := range map[string]struct {
		tenant, client, secret string
		want                   loginError
	}{
		"unknown application": {tenant, "nobody", "x", loginError{400, 700016, "unauthorized_client", "AADSTS700016: Application with identifier 'nobody' was not found in the directory '" + tenant +
			"'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."}},
		"wrong secret": {tenant, clientID, "x", loginError{401, 7000215, "invalid_client", "AADSTS7000215: Invalid client secret provided. " +
			"Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '" + clientID + "'."}},
		"expired secret": {tenant, "expired", password, loginError{401, 7000222, "invalid_client", "AADSTS7000222: The provided client secret keys for app 'expired' are expired. " +
			"Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := secretCredential(t, once(t, cloud), test.tenant, test.client, test.secret).GetToken(t.Context(), vaultScope)
			if got := loginRefusal(t, err); got != test.want {
				t.Errorf("\n got %+v\nwant %+v", got, test.want)
			}
		})
	}
	_, err := secretCredential(t, once(t, cloud), "nowhere", clientID, password).GetToken(t.Context(), vaultScope)
	if err == nil || !strings.Contains(err.Error(), "AADSTS90002: Tenant 'nowhere' not found. Check to make sure you have the correct tenant ID") {
		t.Errorf("unknown tenant: %v", err)
	}
	_, err = secretCredential(t, once(t, cloud), tenant, clientID, password).GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: []string{"https://elsewhere.example/.default"}})
	if got := loginRefusal(t, err); got.Code != 500011 || got.Status != 400 {
		t.Errorf("unknown resource: %+v", got)
	}

	cloud.AddTenant(tenant, "shop.example")
	if _, err := secretCredential(t, once(t, cloud), "shop.example", clientID, password).GetToken(t.Context(), vaultScope); err != nil {
		t.Errorf("by domain: %v", err)
	}
	cloud.RemoveIdentity(tenant, clientID)
	_, err = secretCredential(t, once(t, cloud), tenant, clientID, password).GetToken(t.Context(), vaultScope)
	if got := loginRefusal(t, err); got.Code != 700016 {
		t.Errorf("after RemoveIdentity: %+v", got)
	}
}

// Requests that MSAL does not send.
func TestTokenRequests(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	good := url.Values{"grant_type": {"client_credentials"}, "scope": {"https://vault.azure.net/.default"}, "client_id": {clientID}}
	for name, test := range map[string]struct {
		field, value string
		status, code int
	}{
		"no credential":        {"", "", 401, 7000218},
		"no grant":             {"grant_type", "", 400, 900144},
		"another grant":        {"grant_type", "password", 400, 70003},
		"no scope":             {"scope", "", 400, 900144},
		"scope without suffix": {"scope", "https://vault.azure.net", 400, 1002012},
		"no client":            {"client_id", "", 400, 900144},
		"no assertion type":    {"client_assertion", "x", 400, 900144},
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{test.field: {test.value}}
			for key, values := range good {
				if key != test.field {
					form[key] = values
				}
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://login.microsoftonline.com/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got := parseLoginError(t, resp.StatusCode, body); got.Status != test.status || got.Code != test.code {
				t.Errorf("%+v", got)
			}
		})
	}
	status, _, body := get(t, client, http.MethodGet, "https://login.microsoftonline.com/"+tenant+"/discovery/v2.0/keys", nil)
	if status != 200 || !strings.HasPrefix(body, `{"keys":[{"alg":"RS256"`) {
		t.Errorf("keys: %d %s", status, body)
	}
}

func TestFederation(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "for the pod", devcloud.SecretOptions{})
	issuer := cloud.NewIssuer(cluster)
	addIdentity(t, cloud, devcloud.Identity{ClientID: workload, Federated: []devcloud.FederatedCredential{
		{Issuer: "https://other.example/", Subject: "system:serviceaccount:shop:web"},
		{Issuer: cluster, Subject: "system:serviceaccount:shop:web"},
	}})
	vault.Grant(workload, devcloud.SecretsGet)

	pod := devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: "web", PodName: "web-0", PodUID: "uid"}
	token, err := issuer.Token(pod)
	if err != nil {
		t.Fatal(err)
	}
	options := once(t, cloud)
	secret, err := secretsClient(t, vault.URL(), assertionCredential(t, options, workload, token), options).GetSecret(t.Context(), "a", "", nil)
	if err != nil || *secret.Value != "for the pod" {
		t.Fatalf("%+v %v", secret, err)
	}

	const hint = ". Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	mint := func(i *devcloud.Issuer, change func(*devcloud.ServiceAccountToken)) string {
		t.Helper()
		altered := pod
		change(&altered)
		token, err := i.Token(altered)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	stranger := cloud.NewIssuer("https://stranger.example/")
	impostor, _ := stranger.Sign(jwt.MapClaims{"iss": cluster, "sub": "system:serviceaccount:shop:web", "aud": devcloud.DefaultAudience, "exp": time.Now().Add(time.Hour).Unix()})
	unfetchable, _ := stranger.Sign(jwt.MapClaims{"iss": "https://other.example/", "sub": "system:serviceaccount:shop:web", "aud": devcloud.DefaultAudience, "exp": time.Now().Add(time.Hour).Unix()})
	payload := strings.Split(mint(issuer, func(p *devcloud.ServiceAccountToken) { p.PodName = "other" }), ".")[1]
	parts := strings.Split(token, ".")

	for name, test := range map[string]struct {
		client, assertion string
		status, code      int
		kind, text        string // the text may be its beginning
	}{
		"issuer": {workload, mint(stranger, func(*devcloud.ServiceAccountToken) {}), 401, 700211, "invalid_client",
			"AADSTS700211: No matching federated identity record found for presented assertion issuer 'https://stranger.example/'" + hint},
		"subject": {workload, mint(issuer, func(p *devcloud.ServiceAccountToken) { p.ServiceAccount = "api" }), 401, 700213, "invalid_client",
			"AADSTS700213: No matching federated identity record found for presented assertion subject 'system:serviceaccount:shop:api'" + hint},
		"subject in another case": {workload, mint(issuer, func(p *devcloud.ServiceAccountToken) { p.ServiceAccount = "Web" }), 401, 7002138, "invalid_client",
			"AADSTS7002138: No matching federated identity record found for presented assertion subject 'system:serviceaccount:shop:Web'. " +
				"The subject matches with case-insensitive comparison, but not with case-sensitive comparison. Check your"},
		"audience": {workload, mint(issuer, func(p *devcloud.ServiceAccountToken) { p.Audience = "api://other" }), 401, 700212, "invalid_client",
			"AADSTS700212: No matching federated identity record found for presented assertion audience 'api://other'" + hint},
		"expired": {workload, mint(issuer, func(p *devcloud.ServiceAccountToken) { p.Issued = time.Now().Add(-2 * time.Hour) }), 401, 700024, "invalid_client",
			"AADSTS700024: Client assertion is not within its valid time range. Current time: "},
		"not yet": {workload, mint(issuer, func(p *devcloud.ServiceAccountToken) { p.Issued = time.Now().Add(time.Hour) }), 401, 700024, "invalid_client",
			"AADSTS700024: Client assertion is not within its valid time range. Current time: "},
		"no credentials":    {clientID, token, 401, 70025, "invalid_client", "AADSTS70025: The client '" + clientID + "'() has no configured federated identity credentials."},
		"key of another":    {workload, impostor, 400, 50013, "invalid_request", "AADSTS50013: Assertion failed signature validation. [Reason - The key was not found.]"},
		"issuer not served": {workload, unfetchable, 400, 50166, "invalid_request", "AADSTS50166: Request to External OIDC endpoint failed."},
		"tampered": {workload, parts[0] + "." + payload + "." + parts[2], 400, 50013, "invalid_request",
			"AADSTS50013: Assertion failed signature validation. [Reason - The provided signature value did not match the expected signature value.]"},
		"garbage": {workload, "no.jwt", 400, 50027, "invalid_request", "AADSTS50027: JWT token is invalid or malformed."},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := assertionCredential(t, options, test.client, test.assertion).GetToken(t.Context(), vaultScope)
			got := loginRefusal(t, err)
			if got.Status != test.status || got.Code != test.code || got.Error != test.kind || !strings.HasPrefix(got.Text, test.text) {
				t.Errorf("%+v", got)
			}
		})
	}

	// A cluster whose signing key changed, and then a real one.
	renewed := cloud.NewIssuer(cluster)
	if _, err := assertionCredential(t, options, workload, token).GetToken(t.Context(), vaultScope); loginRefusal(t, err).Code != 50013 {
		t.Errorf("after the change of the key: %v", err)
	}
	if _, err := assertionCredential(t, options, workload, mint(renewed, func(*devcloud.ServiceAccountToken) {})).GetToken(t.Context(), vaultScope); err != nil {
		t.Errorf("with the new key: %v", err)
	}
}

// Tokens has the form of the kubelet's csi.storage.k8s.io/serviceAccount.tokens.
func TestKubeletTokens(t *testing.T) {
	t.Parallel()
	cloud, _ := newCloud(t, devcloud.Options{})
	issuer := cloud.NewIssuer(cluster)
	issued := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	text, err := issuer.Tokens(devcloud.ServiceAccountToken{Namespace: "ns", ServiceAccount: "sa", PodName: "p", PodUID: "u", Issued: issued, Life: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var tokens map[string]struct {
		Token               string
		ExpirationTimestamp time.Time
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil {
		t.Fatal(err)
	}
	entry, ok := tokens["api://AzureADTokenExchange"]
	if !ok || !entry.ExpirationTimestamp.Equal(issued.Add(10*time.Minute)) {
		t.Errorf("%s", text)
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(entry.Token, claims); err != nil {
		t.Fatal(err)
	}
	kubernetes, _ := claims["kubernetes.io"].(map[string]any)
	pod, _ := kubernetes["pod"].(map[string]any)
	if claims["sub"] != "system:serviceaccount:ns:sa" || kubernetes["namespace"] != "ns" || pod["uid"] != "u" {
		t.Errorf("%v", claims)
	}
}

// The vault refuses invalid tokens.
func TestAccessTokens(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	cloud, vault := newCloud(t, devcloud.Options{TokenLife: 10 * time.Minute, Now: now})
	other, _ := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "x", devcloud.SecretOptions{})
	options := once(t, cloud)
	token := func(cred azcore.TokenCredential) string {
		t.Helper()
		token, err := cred.GetToken(t.Context(), vaultScope)
		if err != nil {
			t.Fatal(err)
		}
		return token.Token
	}
	good := token(secretCredential(t, options, tenant, clientID, password))
	foreign := token(secretCredential(t, once(t, other), tenant, clientID, password))
	if err := cloud.AddIdentity(devcloud.Identity{Tenant: "another", ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: password}}}); err != nil {
		t.Fatal(err)
	}
	stranger := token(secretCredential(t, options, "another", clientID, password))
	parts := strings.Split(good, ".")
	none := "eyJhbGciOiJub25lIn0." + parts[1] + "."

	ask := func(authorization string) (int, string) {
		t.Helper()
		status, _, body := get(t, options.Transport, http.MethodGet, vault.URL()+"/secrets/a?api-version=7.4", http.Header{"Authorization": {authorization}})
		return status, body
	}
	if status, body := ask("bearer " + good); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	shift.Store(int64(time.Hour))
	expired := func() string { _, body := ask("Bearer " + good); return body }()
	shift.Store(0)
	if !strings.Contains(expired, "[TokenExpired] Error validating token: 'S2S12086'.") {
		t.Errorf("expired: %s", expired)
	}
	for name, test := range map[string]struct{ authorization, want string }{
		"other scheme": {"Basic x", "AKV10000: Request is missing a Bearer or PoP token."},
		"foreign key":  {"Bearer " + foreign, "AKV10046: Unable to resolve the key used for signature validation."},
		"other tenant": {"Bearer " + stranger, "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/" + tenant + "/, found https://sts.windows.net/another/."},
		"tampered":     {"Bearer " + parts[0] + "." + strings.Split(stranger, ".")[1] + "." + parts[2], "[BearerReadAccessTokenFailed]"},
		"unsigned":     {"Bearer " + none, "[BearerReadAccessTokenFailed]"},
		"garbage":      {"Bearer x", "[BearerReadAccessTokenFailed]"},
	} {
		if status, body := ask(test.authorization); status != 401 || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// A service principal may log in with a certificate.
func TestCertificateAssertion(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	cert, err := vault.SetCertificate("login", devcloud.CertificateOptions{SelfSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	other, err := vault.SetCertificate("other", devcloud.CertificateOptions{SelfSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	addIdentity(t, cloud, devcloud.Identity{ClientID: workload, Certificates: certs(cert)})
	login := func(c *devcloud.Certificate, leaf *devcloud.Certificate) error {
		cred, err := azidentity.NewClientCertificateCredential(tenant, workload, certs(leaf), c.Key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: once(t, cloud), SendCertificateChain: true})
		if err != nil {
			return err
		}
		_, err = cred.GetToken(context.WithoutCancel(t.Context()), vaultScope)
		return err
	}
	if err := login(cert, cert); err != nil {
		t.Error(err)
	}
	if got := loginRefusal(t, login(other, other)); got.Code != 700027 || got.Status != 401 {
		t.Errorf("%+v", got)
	}

	// By subject name and issuer, if the chain is sent.
	leaf := certs(other)[0]
	trust := func(name string) {
		addIdentity(t, cloud, devcloud.Identity{ClientID: workload, TrustedNames: []devcloud.TrustedName{
			{CommonName: name, Roots: []*x509.Certificate{leaf}},
		}})
	}
	trust(leaf.Subject.CommonName)
	if err := login(other, other); err != nil {
		t.Error(err)
	}
	if got := loginRefusal(t, login(cert, cert)); got.Code != 700027 {
		t.Errorf("another issuer: %+v", got)
	}
	trust("somebody else")
	if got := loginRefusal(t, login(other, other)); got.Code != 700027 {
		t.Errorf("another name: %+v", got)
	}
}

func fixed(assertion string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return assertion, nil }
}
