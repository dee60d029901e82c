package login

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// newCredential makes the SDK's credential of an identity. It sets every option, because the SDK reads missing ones
// from the environment. It disables instance discovery, which asks Azure whether it knows the authority: the operator
// configures the authority, and a private cloud cannot reach Azure.
func (l *Logins) newCredential(tenant string, r volume.Request) (azcore.TokenCredential, error) {
	id := r.Identity
	if l.options.Credential != nil {
		return l.options.Credential, nil
	}
	options := policy.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: l.options.Cloud.AuthorityHost + "/",
			Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{},
		},
		Retry:     azure.Retries(azure.TryTimeout/2, l.options.TryTimeout),
		Telemetry: policy.TelemetryOptions{ApplicationID: azure.ApplicationID},
		Transport: &authoritySender{Sender: l.options.Sender, host: l.host},
	}
	switch KindOf(id) {
	case ByAssertion:
		return newAssertionCredential(tenant, id.ClientID, options)
	case BySecret:
		return azidentity.NewClientSecretCredential(tenant, id.ClientID, string(id.ClientSecret.Reveal()),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case ByCertificate:
		return l.newCertificateCredential(tenant, r, options), nil
	case ByMetadata:
		return &metadataCredential{service: l.metadata, resource: l.options.Cloud.Resource(), identity: id, now: l.options.Now}, nil
	default:
		return nil, ErrNoLogin
	}
}

// assertionCredential logs in with the assertion of the pod in the context, each time anew. A credential of the SDK
// would reuse a token that another pod has obtained, and would keep the assertion.
type assertionCredential struct {
	with func(assertion volume.Secret) (azcore.TokenCredential, error)
}

func newAssertionCredential(tenant, clientID string, options policy.ClientOptions) (*assertionCredential, error) {
	c := &assertionCredential{func(assertion volume.Secret) (azcore.TokenCredential, error) {
		return azidentity.NewClientAssertionCredential(tenant, clientID,
			func(context.Context) (string, error) { return string(assertion.Reveal()), nil },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	}}
	_, err := c.with(volume.Secret{}) // checks the parameters
	return c, err
}

// GetToken implements azcore.TokenCredential.
func (c *assertionCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	who, ok := proverOf(ctx)
	if !ok {
		return azcore.AccessToken{}, ErrNoLogin
	}
	inner, err := c.with(who.assertion)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return inner.GetToken(ctx, o)
}

// certificateCredential logs in with a client certificate. It parses the certificate at first use, because key
// derivations are slow, and then drops the file, which may have 64 KiB.
type certificateCredential struct {
	mu         sync.Mutex
	parse      certificateReader      // nil once the result is final; then credential or unusable has the result
	credential azcore.TokenCredential // either this
	unusable   error                  // or this
}

// certificateReader returns the SDK's credential. final means that the same input gives the same result again.
type certificateReader func(context.Context) (credential azcore.TokenCredential, final bool, err error)

func (l *Logins) newCertificateCredential(tenant string, r volume.Request, options policy.ClientOptions) *certificateCredential {
	id, namespace := r.Identity, r.Pod.Namespace
	content, password := id.ClientCertificate.Reveal(), id.ClientCertificatePassword.Reveal()
	if id.Kind == volume.Cluster {
		namespace = "" // the certificate belongs to the node
	}
	return &certificateCredential{parse: func(ctx context.Context) (azcore.TokenCredential, bool, error) {
		chain, key, final, err := l.options.ParseCertificate(ctx, namespace, content, password)
		if err != nil {
			return nil, final, err
		}
		credential, err := azidentity.NewClientCertificateCredential(tenant, id.ClientID, chain, key, &azidentity.ClientCertificateCredentialOptions{
			ClientOptions: options, DisableInstanceDiscovery: true,
			SendCertificateChain: true, // for applications that accept a subject and issuer instead of one certificate
		})
		return credential, true, err
	}}
}

// GetToken implements azcore.TokenCredential.
func (c *certificateCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	inner, err := c.once(ctx)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return inner.GetToken(ctx, o)
}

// once returns the SDK's credential. All callers share it, because it keeps the token.
func (c *certificateCredential) once(ctx context.Context) (azcore.TokenCredential, error) {
	c.mu.Lock()
	parse, credential, err := c.parse, c.credential, c.unusable
	c.mu.Unlock()
	if parse == nil {
		return credential, err
	}
	credential, final, err := parse(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parse == nil { // another caller has parsed it meanwhile
		return c.credential, c.unusable
	}
	if final {
		c.parse, c.credential, c.unusable = nil, credential, err
	}
	return credential, err
}

// authoritySender keeps logins at the one authority of the cloud. The SDK asks it for the endpoints. The environment
// variables for "regional authorities", which the SDK reads, must not redirect that request.
type authoritySender struct {
	*azure.Sender
	host string
}

// Do implements policy.Transporter.
func (s *authoritySender) Do(req *http.Request) (*http.Response, error) {
	const question = "/.well-known/openid-configuration"
	if !strings.HasSuffix(req.URL.Path, question) {
		return s.Sender.Do(req)
	}
	req.URL.Host, req.Host = s.host, ""
	tenant := strings.TrimSuffix(strings.TrimPrefix(req.URL.Path, "/"), "/v2.0"+question)
	if isEntra(s.host) && guid.MatchString(tenant) {
		return s.endpoints(req, tenant), nil
	}
	return s.Sender.Do(req)
}

// isEntra reports whether the endpoints of an authority are known, so that a login need not request them. The request
// would be one more round trip for each identity, and one more possible failure. Endpoints are requested from other
// authorities (an operator's, or China's, which has had several names), and for a tenant that is given by a domain
// name.
// https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud#microsoft-entra-authentication-endpoints
func isEntra(host string) bool {
	return host == "login.microsoftonline.com" || host == "login.microsoftonline.us"
}

// endpoints returns the part of Entra ID's answer that the SDK reads. Neither the host nor the tenant, a GUID, needs escapes.
// https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#fetch-the-openid-configuration-document
func (s *authoritySender) endpoints(req *http.Request, tenant string) *http.Response {
	root := "https://" + s.host + "/" + tenant
	body := fmt.Sprintf(`{"authorization_endpoint":"%[1]s/oauth2/v2.0/authorize","token_endpoint":"%[1]s/oauth2/v2.0/token","issuer":"%[1]s/v2.0"}`, root)
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Content-Type": {"application/json"}},
		Body:    io.NopCloser(strings.NewReader(body)),
		Request: req,
	}
}
