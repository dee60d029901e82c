package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	asSP       = `secrets[0]: secret "a" of https://shop.vault.azure.net as servicePrincipal ` + clientID + `: `
	asWorkload = `secrets[0]: secret "a" of https://shop.vault.azure.net as workload ` + clientID + `: `
)

const (
	sentClaims   = `subject "system:serviceaccount:shop:web", issuer "https://issuer.example.com/cluster", audience "api://AzureADTokenExchange"`
	noCredential = "no federated credential of the application matches the pod's token; it needs one with " + sentClaims
	noIssuer     = "Entra ID cannot fetch the keys of the token's issuer; tried again later. Can the issuer be reached from the internet? The token has " + sentClaims
)

// Every refusal of a vault has a sentinel error and a text that says what to do.
func TestRefusalsOfTheVault(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		prepare  func(*fixture) volume.Request
		sentinel error
		text     string
	}{
		{"absent", func(w *fixture) volume.Request { return w.asServicePrincipal(secret("b")) }, volume.ErrNotFound,
			strings.ReplaceAll(asSP, `"a"`, `"b"`) + "HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted"},
		{"absent version", func(w *fixture) volume.Request {
			o := secret("a")
			o.Version = "00000000000000000000000000000001"
			return w.asServicePrincipal(o)
		}, volume.ErrNotFound, `secrets[0]: secret "a" version 00000000000000000000000000000001 of https://shop.vault.azure.net as servicePrincipal ` + clientID +
			`: HTTP 404 SecretNotFound: there is no such object, or not in this version; check both, or recover it if it was deleted`},
		{"disabled", func(w *fixture) volume.Request {
			w.must(w.vault.Disable(devcloud.Secrets, "a", ""))
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrPrecondition, asSP + "HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or mark the object optional"},
		{"no access policy", func(w *fixture) volume.Request {
			w.vault.Deny(clientID)
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrDenied, asSP + `HTTP 403 Forbidden, ForbiddenByPolicy: the identity may not do secrets/get; add it to the vault's access policy, or assign the role "Key Vault Secrets User"`},
		{"no role", func(w *fixture) volume.Request {
			vault, err := w.AddVault("roles", devcloud.VaultOptions{Tenant: tenantID, RBAC: true})
			w.must(err)
			vault.SetSecret("a", "x", devcloud.SecretOptions{})
			o := secret("a")
			o.Vault = vault.URL()
			return w.asServicePrincipal(o)
		}, volume.ErrDenied, strings.ReplaceAll(asSP, "shop", "roles") +
			`HTTP 403 Forbidden, ForbiddenByRbac: the identity has no role for it; assign "Key Vault Secrets User" on the vault (a new assignment takes up to 10 minutes)`},
		{"firewall", func(w *fixture) volume.Request {
			w.vault.SetFirewall(true)
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrDenied, asSP + "HTTP 403 Forbidden, ForbiddenByFirewall: the vault's firewall refuses this node; allow its address or subnet, or use a private endpoint"},
		{"no public access", func(w *fixture) volume.Request {
			w.vault.SetPublicAccess(false)
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrDenied, asSP + "HTTP 403 Forbidden, ForbiddenByConnection: " + noPublicAccess},
		{"no approved private link, by the text alone", answered(403, "Forbidden", "",
			"Connection is not an approved private link and caller was ignored because bypass is set to None."),
			volume.ErrDenied, asSP + "HTTP 403 Forbidden: " + noPublicAccess},
		{"no access policy, as before 2021", answered(403, "Forbidden", "AccessDenied", "The user, group or application 'appid=a' does not have secrets get permission on key vault 'shop'."),
			volume.ErrDenied, asSP + `HTTP 403 Forbidden, AccessDenied: the identity may not do secrets/get; add it to the vault's access policy, or assign the role "Key Vault Secrets User"`},
		{"an expired token", answered(401, "Unauthorized", "", "[TokenExpired] Error validating token: 'S2S12086'."),
			volume.ErrUnauthenticated, asSP + "HTTP 401 Unauthorized, TokenExpired: the token is expired by the vault's clock; check the clock of the node"},
		{"a 404 of something else", func(w *fixture) volume.Request {
			w.fetch(w.asServicePrincipal(secret("a")))
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Malformed, Status: 404, Text: html, ContentType: "text/html"})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "HTTP 404: that is no answer of a key vault; check what answers under this name"},
		{"a 403 of something else", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Malformed, Status: 403, Text: html, ContentType: "text/html"})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "HTTP 403: that is no answer of a key vault; check what answers under this name"},
		{"throttled", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Throttle, RetryAfter: time.Hour})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "HTTP 429 Throttled: the vault is throttled; it is asked again later"},
		{"failing", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Fail, Status: 503})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "HTTP 503 ServiceUnavailable: the vault fails; it is asked again later"},
		{"no JSON", func(w *fixture) volume.Request {
			w.fetch(w.asServicePrincipal(secret("a")))
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Malformed})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "the vault gave a strange answer, it cannot be understood; check what answers under its name"},
		{"no JSON and no challenge", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Malformed, Text: "<html>", ContentType: "text/html"})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "the vault gave a strange answer, it cannot be understood; check what answers under its name"},
		{"a redirect", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Fail, Status: 302})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "HTTP 302 Found: a redirect is never followed; check what answers under this name"},
		{"too large", func(w *fixture) volume.Request {
			w.vault.SetSecret("a", strings.Repeat("x", 2<<20), devcloud.SecretOptions{})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "no answer from shop.vault.azure.net: the answer is larger than any answer of a key vault; check what answers under this name"},
		{"malformed challenge", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Challenge, Text: `Bearer authorization="login"`})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "the vault gave no readable challenge (HTTP 401, WWW-Authenticate); is this a key vault of AzurePublicCloud?"},
		{"malformed challenge to a token", func(w *fixture) volume.Request {
			w.fetch(w.asServicePrincipal(secret("a")))
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Challenge, Text: `Bearer authorization="login" resource="x"`})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnauthenticated, asSP + "HTTP 401 Unauthorized, AKV10000: the vault does not accept a token of tenant " + tenantID + "; check tenantID and --cloud"},
		{"another tenant", func(w *fixture) volume.Request {
			w.must(w.AddIdentity(devcloud.Identity{Tenant: otherTenantID, ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: clientSecret}}}))
			r := w.asServicePrincipal(secret("a"))
			r.Identity.TenantID = otherTenantID
			return r
		}, volume.ErrUnauthenticated, asSP + "HTTP 401 Unauthorized, AKV10032: the token is of tenant " + otherTenantID +
			", the vault belongs to tenant " + tenantID + "; set tenantID to that one or leave it out"},
		{"no such vault", func(w *fixture) volume.Request {
			o := secret("a")
			o.Vault = "https://nowhere.vault.azure.net"
			return w.asServicePrincipal(o)
		}, volume.ErrUnavailable, strings.ReplaceAll(asSP, "shop", "nowhere") +
			"no answer from nowhere.vault.azure.net: the proxy answered CONNECT with HTTP 502; check the name, and what the proxy allows"},
		{"reset", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "no answer from shop.vault.azure.net: the connection broke; check the network between the node and it"},
		{"a foreign vault", func(w *fixture) volume.Request {
			o := secret("a")
			o.Vault = "https://shop.vault.azure.net.example.com"
			return w.asServicePrincipal(o)
		}, volume.ErrInvalid, `secrets[0]: "https://shop.vault.azure.net.example.com" is not a vault of the cloud AzurePublicCloud`},
		{"a name that is a path", func(w *fixture) volume.Request { return w.asServicePrincipal(secret("..")) },
			volume.ErrInvalid, `secrets[0]: ".." is not the name of an object`},
		{"an encoding that it has not", func(w *fixture) volume.Request {
			o := secret("a")
			o.Encoding = volume.Hex
			return w.asServicePrincipal(o)
		}, volume.ErrPrecondition, `secrets[0]: secret "a" of https://shop.vault.azure.net is not hex; correct the value or the encoding`},
		{"a certificate's file of a secret without", func(w *fixture) volume.Request {
			o := secret("a")
			o.NeedsCertificate = true
			return w.asServicePrincipal(o)
		}, volume.ErrPrecondition, `secrets[0]: secret "a" of https://shop.vault.azure.net backs no certificate, so that there is nothing for its certificate's file; leave the file names out`},
		{"a certificate's file of a PFX without a key in the vault", func(w *fixture) volume.Request {
			w.vault.SetSecret("app-service", "MIIB", devcloud.SecretOptions{ContentType: devcloud.PKCS12})
			o := secret("app-service")
			o.NeedsCertificate = true
			return w.asServicePrincipal(o)
		}, volume.ErrPrecondition, `secrets[0]: secret "app-service" of https://shop.vault.azure.net backs no certificate, so that there is nothing ` +
			"for its certificate's file; leave the file names out, or name it in the attribute objects: [{certificate: app-service}]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			w.fails(test.prepare(w), test.sentinel, test.text)
		})
	}
}

const noPublicAccess = "public access to the vault is off, so that an allowed address does not help; " +
	"connect the node's network by an approved private endpoint"

// answered is a request that the vault answers with an error, after a request that it served.
func answered(status int, code, inner, message string) func(*fixture) volume.Request {
	return func(w *fixture) volume.Request {
		w.fetch(w.asServicePrincipal(secret("a")))
		text := fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, code, message)
		if inner != "" {
			text = fmt.Sprintf(`{"error":{"code":%q,"message":%q,"innererror":{"code":%q}}}`, code, message, inner)
		}
		w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Malformed, Status: status, Text: text})
		return w.asServicePrincipal(secret("a"))
	}
}

// refusedLogin is a login of a pod that Entra ID refuses.
func refusedLogin(status int, code, description string) func(*fixture) volume.Request {
	return func(w *fixture) volume.Request {
		w.inject(devcloud.Fault{Service: devcloud.ServiceLogin, Action: devcloud.Malformed, Status: status,
			Text: fmt.Sprintf(`{"error":%q,"error_description":%q}`, code, description)})
		return w.asWorkload(secret("a"))
	}
}

func (w *fixture) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestRefusalsOfEntraID(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		prepare  func(*fixture) volume.Request
		sentinel error
		text     string
	}{
		{"wrong secret", func(w *fixture) volume.Request {
			r := w.asServicePrincipal(secret("a"))
			r.Identity.ClientSecret = volume.NewSecret([]byte("wrong"))
			return r
		}, volume.ErrUnauthenticated, asSP + "Entra ID answered HTTP 401 invalid_client, AADSTS7000215: the client secret is wrong; give its value, not its id, in the Secret of nodePublishSecretRef"},
		{"expired secret", func(w *fixture) volume.Request {
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID,
				Secrets: []devcloud.ClientSecret{{Value: clientSecret, Expires: time.Now().Add(-time.Hour)}}}))
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnauthenticated, asSP + "Entra ID answered HTTP 401 invalid_client, AADSTS7000222: the client secret has expired; make a new one and put it into the Secret of nodePublishSecretRef"},
		{"unknown application", func(w *fixture) volume.Request {
			w.RemoveIdentity(tenantID, clientID)
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnauthenticated, asSP + "Entra ID answered HTTP 400 unauthorized_client, AADSTS700016: tenant " + tenantID + " has no such application; check clientID and tenantID"},
		{"unknown tenant", func(w *fixture) volume.Request {
			r := w.asServicePrincipal(secret("a"))
			r.Identity.TenantID = "nobody.example.com"
			return r
		}, volume.ErrUnauthenticated, asSP + "Entra ID answered HTTP 400 invalid_request, AADSTS90002: there is no tenant nobody.example.com in AzurePublicCloud; " +
			"check tenantID and --cloud (asked of tenant nobody.example.com, while the vault belongs to tenant " + tenantID + ")"},
		{"no federated credential", func(w *fixture) volume.Request {
			r := w.asWorkload(secret("a"))
			r.Pod.ServiceAccount = "other"
			r.Identity.Assertion = w.token(devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: "other"})
			return r
		}, volume.ErrUnauthenticated, asWorkload + `Entra ID answered HTTP 401 invalid_client, AADSTS700213: no federated credential of the application matches the pod's token; ` +
			`it needs one with subject "system:serviceaccount:shop:other", issuer "https://issuer.example.com/cluster", audience "api://AzureADTokenExchange"`},
		{"a federated credential in another case", func(w *fixture) volume.Request {
			r := w.asWorkload(secret("a"))
			r.Pod.ServiceAccount = "Web"
			r.Identity.Assertion = w.token(devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: "Web"})
			return r
		}, volume.ErrUnauthenticated, asWorkload + `Entra ID answered HTTP 401 invalid_client, AADSTS7002138: a federated credential of the application differs from the pod's token ` +
			`in upper and lower case alone; it needs exactly subject "system:serviceaccount:shop:Web", issuer "https://issuer.example.com/cluster", audience "api://AzureADTokenExchange"`},
		{"no federated credential, 7002137", refusedLogin(401, "invalid_client", "AADSTS7002137: No matching federated identity record found for presented assertion audience."),
			volume.ErrUnauthenticated, asWorkload + "Entra ID answered HTTP 401 invalid_client, AADSTS7002137: " + noCredential},
		{"no federated credential, 70021 with HTTP 400", refusedLogin(400, "invalid_request", "AADSTS70021: No matching federated identity record found for presented assertion."),
			volume.ErrUnauthenticated, asWorkload + "Entra ID answered HTTP 400 invalid_request, AADSTS70021: " + noCredential},
		{"no federated credential, by the text alone", refusedLogin(401, "invalid_client", "AADSTS7999999: No matching federated identity record found for presented assertion."),
			volume.ErrUnauthenticated, asWorkload + "Entra ID answered HTTP 401 invalid_client, AADSTS7999999: " + noCredential},
		{"the issuer cannot be reached", func(w *fixture) volume.Request {
			w.SetIssuerReachable(issuerURL, false)
			return w.asWorkload(secret("a"))
		}, volume.ErrUnavailable, asWorkload + "Entra ID answered HTTP 400 invalid_request, AADSTS90061: " + noIssuer},
		{"the issuer cannot be reached, 50166", refusedLogin(400, "invalid_request", "AADSTS50166: Request to External OIDC endpoint failed."),
			volume.ErrUnavailable, asWorkload + "Entra ID answered HTTP 400 invalid_request, AADSTS50166: " + noIssuer},
		{"a transient error with HTTP 400", refusedLogin(400, "invalid_request", "AADSTS90033: A transient error has occurred. Please try again."),
			volume.ErrUnavailable, asWorkload + "Entra ID answered HTTP 400 invalid_request, AADSTS90033: the authority fails; tried again later"},
		{"no vaults in the tenant", refusedLogin(400, "invalid_resource", "AADSTS500011: The resource principal named https://vault.azure.net was not found in the tenant named Microsoft."),
			volume.ErrUnauthenticated, asWorkload + "Entra ID answered HTTP 400 invalid_resource, AADSTS500011: Key Vault is not known in tenant " + tenantID +
				"; is it a tenant of AzurePublicCloud? Check tenantID and --cloud"},
		{"a page of something else", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceLogin, Action: devcloud.Malformed, Status: 403, Text: html, ContentType: "text/html"})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "Entra ID answered HTTP 403: that is no answer of Entra ID; check what answers under its name"},
		{"expired assertion", func(w *fixture) volume.Request {
			r := w.asWorkload(secret("a"))
			r.Identity.Assertion = w.token(devcloud.ServiceAccountToken{Namespace: "shop", ServiceAccount: "web", Issued: time.Now().Add(-3 * time.Hour)})
			return r
		}, volume.ErrUnauthenticated, asWorkload + "Entra ID answered HTTP 401 invalid_client, AADSTS700024: the pod's token is expired or not yet valid; check the clocks, the kubelet brings a fresh one"},
		{"throttled", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceLogin, Action: devcloud.Throttle, RetryAfter: time.Hour})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "Entra ID answered HTTP 429 too_many_requests, AADSTS90055: logins are throttled; tried again later"},
		{"reset", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceLogin, Action: devcloud.Reset})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "no answer from login.microsoftonline.com: the connection broke; check the network between the node and it"},
		{"no JSON", func(w *fixture) volume.Request {
			w.inject(devcloud.Fault{Service: devcloud.ServiceLogin, Action: devcloud.Malformed})
			return w.asServicePrincipal(secret("a"))
		}, volume.ErrUnavailable, asSP + "Entra ID gave a strange answer, it cannot be understood; check what answers under its name"},
		{"no secret", func(*fixture) volume.Request {
			return request(volume.Identity{Kind: volume.ServicePrincipal, ClientID: clientID}, []volume.Object{secret("a")})
		}, volume.ErrInvalid, "identity servicePrincipal needs clientid, and clientsecret or clientcertificate"},
		{"no file of the cluster", func(*fixture) volume.Request {
			return request(volume.Identity{Kind: volume.Cluster}, []volume.Object{secret("a")})
		}, volume.ErrPrecondition, "identity cluster: this driver has no file with the cluster's login"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			w.fails(test.prepare(w), test.sentinel, test.text)
		})
	}
}

func TestNetworkFailures(t *testing.T) {
	t.Parallel()
	dead := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	for _, test := range []struct {
		name   string
		change func(*keyvault.Options)
		text   string
	}{
		{"no proxy there", func(o *keyvault.Options) { o.Proxy = http.ProxyURL(dead) },
			"no answer from shop.vault.azure.net: the proxy cannot be reached; check HTTPS_PROXY and NO_PROXY of the driver"},
		{"unknown roots", func(o *keyvault.Options) { o.RootCAs = nil },
			"no answer from shop.vault.azure.net: its certificate is not trusted; behind an inspecting proxy, give its root with --ca-bundle"},
	} {
		w := newFixture(t, test.change)
		w.fails(w.asServicePrincipal(secret("a")), volume.ErrUnavailable, asSP+test.text)
	}
}

// A caller's context is honoured whichever request hangs, also while the caller waits for a shared login.
func TestContextsAreHonoured(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, waiting string
		fault         devcloud.Fault
		kind          string // of the request that hangs
	}{
		{"vault", "the vault", devcloud.Fault{Service: devcloud.ServiceVault}, "secrets/get"},
		{"login", "Entra ID", devcloud.Fault{Service: devcloud.ServiceLogin}, "token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			test.fault.Action = devcloud.Hang
			stop := w.inject(test.fault)
			first := make(chan error, 1)
			go func() {
				_, err := w.client.Fetch(context.Background(), w.asServicePrincipal(secret("a")))
				first <- err
			}()
			w.must(w.Wait(t.Context(), devcloud.CountKey{Kind: test.kind}, 1))

			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := w.client.Fetch(ctx, w.asServicePrincipal(secret("a")))
			if want := asSP + "waiting for " + test.waiting + ": context deadline exceeded"; err == nil || err.Error() != want || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %s", err, want)
			}
			ctx, cancel = context.WithCancel(t.Context())
			cancel()
			_, err = w.client.Fetch(ctx, w.asServicePrincipal(secret("a")))
			if want := asSP + "waiting for " + test.waiting + ": context canceled"; err == nil || err.Error() != want || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %s", err, want)
			}
			stop()
			if err := <-first; err != nil {
				t.Errorf("the one who waits: %v", err)
			}
		})
	}
}

// The error is of the first object in the request, in whatever order the objects are refused.
func TestTheErrorIsDeterministic(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("slow", "x", devcloud.SecretOptions{})
	w.must(w.vault.Disable(devcloud.Secrets, "slow", ""))
	w.fetch(w.asServicePrincipal())
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets/slow", Action: devcloud.Delay, Delay: 50 * time.Millisecond})
	objects := []volume.Object{secret("slow")}
	for range 20 {
		objects = append(objects, secret("absent"))
	}
	w.fails(w.asServicePrincipal(objects...), volume.ErrPrecondition,
		strings.ReplaceAll(asSP, `"a"`, `"slow"`)+"HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or mark the object optional")
}

// timeLeft is a context that always has the same time left, however busy the machine is.
type timeLeft struct {
	context.Context
	left time.Duration
}

func (c timeLeft) Deadline() (time.Time, bool) { return time.Now().Add(c.left), true }

// expiring is a context whose deadline passes when the test says so.
type expiring struct {
	timeLeft
	done chan struct{}
}

func (c expiring) Done() <-chan struct{} { return c.done }

func (c expiring) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A caller whose deadline ends while logins are throttled gets the throttling as the reason.
func TestTimeoutWhileLoginsAreThrottled(t *testing.T) {
	t.Parallel()
	const left = 15 * time.Second
	entraID := `secrets[0]: secret "a" of https://shop.vault.azure.net as servicePrincipal ` + clientID +
		": Entra ID answered HTTP 429 too_many_requests, AADSTS90055: logins are throttled; tried again later"
	node := asManaged + ": the node's metadata service answered HTTP 429 too_many_requests: the metadata service is throttled; tried again later"
	for _, test := range []struct {
		service devcloud.Service
		path    string
		pause   time.Duration
		text    string
	}{
		{devcloud.ServiceLogin, "/" + tenantID + "/oauth2", 0, entraID},
		{devcloud.ServiceLogin, "/" + tenantID + "/oauth2", left + 5*time.Second, entraID},
		{devcloud.ServiceIMDS, "", 0, node},
	} {
		w := newVM(t)
		w.run()
		r := w.asServicePrincipal(secret("a"))
		if test.service == devcloud.ServiceIMDS {
			r = managed(byNone)
		}
		w.inject(devcloud.Fault{Service: test.service, Path: test.path, Action: devcloud.Throttle, RetryAfter: test.pause})
		ctx := expiring{timeLeft{t.Context(), left}, make(chan struct{})}
		failed := make(chan error, 1)
		go func() {
			_, err := w.client.Fetch(ctx, r)
			failed <- err
		}()
		if test.pause < left { // otherwise it is not waited for
			suite.Eventually(t, "two refusals", func() bool {
				return w.Count(devcloud.CountKey{Service: test.service, Status: http.StatusTooManyRequests}) > 1
			})
			close(ctx.done)
		}
		if err := <-failed; !errors.Is(err, volume.ErrUnavailable) || err.Error() != test.text {
			t.Errorf("%s, Retry-After %v: %v, want %s", test.service, test.pause, err, test.text)
		}
	}
}
