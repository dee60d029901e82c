package keyvault

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"regexp"
	"slices"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// loginKind is how an identity proves itself. The kinds of identity in a pod's attributes say whose it is; the
// cluster's can be of three of these.
type loginKind string

const (
	byAssertion   loginKind = "assertion"   // the pod's service account token
	bySecret      loginKind = "secret"      // a client secret
	byCertificate loginKind = "certificate" // an assertion that a client certificate signs
	byMetadata    loginKind = "metadata"    // what the node's metadata service gives out
	byNothing     loginKind = ""
)

// loginOf reads the kind of login from what an identity holds after [Client.identify].
func loginOf(id volume.Identity) loginKind {
	switch {
	case id.Kind == volume.Workload:
		return byAssertion
	case id.Kind == volume.Managed:
		return byMetadata
	case !id.ClientSecret.IsEmpty():
		return bySecret
	case !id.ClientCertificate.IsEmpty():
		return byCertificate
	case id.Kind == volume.Cluster:
		return byMetadata
	default:
		return byNothing
	}
}

// identify refuses what cannot be logged in with, before anything is asked of the network, and puts in the place of
// identity cluster what the cluster's file says now: a file that changed counts with the next fetch.
func (c *Client) identify(r volume.Request) (volume.Request, error) {
	if c.credential != nil {
		return r, nil
	}
	id := r.Identity
	switch id.Kind {
	case volume.Workload:
		if id.ClientID == "" || id.Assertion.IsEmpty() {
			return r, volume.Errorf(volume.ErrInvalid, "identity workload needs clientID and the pod's token")
		}
	case volume.ServicePrincipal:
		if id.ClientID == "" || loginOf(id) == byNothing {
			return r, volume.Errorf(volume.ErrInvalid, "identity servicePrincipal needs clientid, and clientsecret or clientcertificate")
		}
	case volume.Managed:
		if named := slices.DeleteFunc([]string{id.ClientID, id.ObjectID, id.ResourceID}, isEmpty); len(named) > 1 {
			return r, volume.Errorf(volume.ErrInvalid, "identity managed takes one of clientID, objectID and resourceID")
		}
	case volume.Cluster:
		cluster, err := c.cluster(id)
		if err != nil {
			return r, err
		}
		r.Identity = cluster
	default:
		return r, volume.Errorf(volume.ErrInvalid, "identity %q is unknown", id.Kind)
	}
	return r, nil
}

func isEmpty(s string) bool { return s == "" }

var (
	guid   = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	domain = regexp.MustCompile(`(?i)^([0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?\.)+[a-z][0-9a-z-]{0,61}[0-9a-z]$`)
)

// assertionCredential logs in with the assertion of the pod that the context names, each time anew: a credential of the SDK
// would go on giving out a token that another pod has got, and would keep the assertion.
type assertionCredential struct {
	with func(assertion volume.Secret) (azcore.TokenCredential, error)
}

func newAssertionCredential(tenant, clientID string, options policy.ClientOptions) (*assertionCredential, error) {
	c := &assertionCredential{func(assertion volume.Secret) (azcore.TokenCredential, error) {
		return azidentity.NewClientAssertionCredential(tenant, clientID,
			func(context.Context) (string, error) { return string(assertion.Reveal()), nil },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	}}
	_, err := c.with(volume.Secret{}) // tells whether the parameters will do
	return c, err
}

func (c *assertionCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	who, ok := proverOf(ctx)
	if !ok {
		return azcore.AccessToken{}, errNoLogin
	}
	inner, err := c.with(who.assertion)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return inner.GetToken(ctx, o)
}

// certificateCredential logs in with a client certificate. It is read when it is first used, because that may take
// a password's many rounds: nobody else waits for it then. What it was read from, which is up to 64 KiB, is kept no longer.
type certificateCredential struct {
	mu         sync.Mutex
	read       certificateReader      // nil once it has been read
	credential azcore.TokenCredential // what it was read as,
	unusable   error                  // or why it cannot be
}

// certificateReader gives the SDK's credential. final says that the error would be the same again.
type certificateReader func(context.Context) (credential azcore.TokenCredential, final bool, err error)

// clientCertificate is a client certificate that was read.
type clientCertificate struct {
	chain []*x509.Certificate
	key   crypto.PrivateKey
}

func (c *Client) newCertificateCredential(tenant string, r volume.Request, options policy.ClientOptions) *certificateCredential {
	id := r.Identity
	content, password := id.ClientCertificate.Reveal(), id.ClientCertificatePassword.Reveal()
	namespace := r.Pod.Namespace
	if id.Kind == volume.Cluster {
		namespace = "" // it is the node's
	}
	about := c.content(namespace, []byte("client certificate"), content, password)
	return &certificateCredential{read: func(ctx context.Context) (credential azcore.TokenCredential, final bool, err error) {
		value, _, err := c.decoder.once(ctx, about, func() (any, error) {
			chain, key, err := parseClientCertificate(content, password)
			return clientCertificate{chain, key}, err
		})
		switch {
		case errors.Is(err, errGivenUp), errors.Is(err, errUnreadable):
			return nil, errors.Is(err, errUnreadable), unusable(err.Error())
		case ctx.Err() != nil:
			return nil, false, &unreached{"this node", "it decodes other certificates first", "wait, or spread their pods over more nodes"}
		case err != nil:
			return nil, true, err
		}
		read := value.(clientCertificate)
		credential, err = azidentity.NewClientCertificateCredential(tenant, id.ClientID, read.chain, read.key, &azidentity.ClientCertificateCredentialOptions{
			ClientOptions: options, DisableInstanceDiscovery: true,
			SendCertificateChain: true, // for applications that trust a name and its issuer rather than one certificate
		})
		return credential, true, err
	}}
}

func (c *certificateCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	inner, err := c.once(ctx)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return inner.GetToken(ctx, o)
}

// once gives the SDK's credential. All log in with one, which keeps the token.
func (c *certificateCredential) once(ctx context.Context) (azcore.TokenCredential, error) {
	c.mu.Lock()
	read, credential, err := c.read, c.credential, c.unusable
	c.mu.Unlock()
	if read == nil {
		return credential, err
	}
	credential, final, err := read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil { // another has been faster
		return c.credential, c.unusable
	}
	if final {
		c.read, c.credential, c.unusable = nil, credential, err
	}
	return credential, err
}
