package keyvault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// credentialKey is who may share a token. A client id is no secret, so that it alone never suffices: to it belong the
// service account that Entra ID federates, or the secret that was presented. The node's own identities belong to
// whoever the operator's policy lets use them, and have a key of their own even where a pod presents the same login.
type credentialKey struct {
	kind                      volume.IdentityKind
	tenant, clientID          string            // no tenant for managed identities: they have but one
	objectID, resourceID      string            // managed
	namespace, serviceAccount string            // workload
	presented                 [sha256.Size]byte // servicePrincipal and cluster: HMAC under a key of this process
	answered                  volume.Principal  // of values: who has read them, where the policy asks for it; see permit
}

// sessionKey is one identity at one vault.
type sessionKey struct {
	credentialKey
	vault string
}

// session holds the SDK's clients of one identity at one vault, made when first used.
type session struct {
	login        *login
	secrets      func() (*azsecrets.Client, error)
	certificates func() (*azcertificates.Client, error)
	keys         func() (*azkeys.Client, error)
}

func (c *Client) credentialKey(r volume.Request, tenant string) credentialKey {
	id := r.Identity
	key := credentialKey{
		kind: id.Kind, tenant: strings.ToLower(tenant),
		clientID: strings.ToLower(id.ClientID), objectID: strings.ToLower(id.ObjectID), resourceID: strings.ToLower(id.ResourceID),
		presented: c.digest(id.ClientSecret.Reveal(), id.ClientCertificate.Reveal(), id.ClientCertificatePassword.Reveal()),
	}
	switch loginOf(id) {
	case byAssertion:
		key.namespace, key.serviceAccount = r.Pod.Namespace, r.Pod.ServiceAccount
	case byMetadata:
		key.tenant = ""
	}
	return key
}

// digest stands for secrets in the key of a map; nobody who sees it can try values out.
func (c *Client) digest(parts ...[]byte) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.macKey[:])
	for _, part := range parts {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part)))
		mac.Write(part)
	}
	mac.Sum(sum[:0])
	return sum
}

// newCredential makes the SDK's credential of an identity. Every option is given, because what is left out the SDK
// reads from the environment. The authority is the operator's and not a pod's, so nobody is asked whether it is one of
// Azure's (instance discovery): a private cloud could not ask.
func (c *Client) newCredential(l *login, r volume.Request) (azcore.TokenCredential, error) {
	id := r.Identity
	if c.credential != nil {
		return c.credential, nil
	}
	attempts := retries(tryTimeout / 2)
	attempts.ShouldRetry = worthAnotherTry
	options := policy.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: c.cloud.AuthorityHost + "/",
			Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{},
		},
		Retry:     attempts,
		Telemetry: policy.TelemetryOptions{ApplicationID: applicationID},
		Transport: c.authority,
	}
	switch loginOf(id) {
	case byAssertion:
		return azidentity.NewClientAssertionCredential(l.tenant, id.ClientID,
			func(context.Context) (string, error) { return string(l.assertion.Load().Reveal()), nil },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case bySecret:
		return azidentity.NewClientSecretCredential(l.tenant, id.ClientID, string(id.ClientSecret.Reveal()),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case byCertificate:
		return c.newCertificateCredential(l.tenant, r, options), nil
	case byMetadata:
		return &metadataCredential{service: c.metadata, resource: c.cloud.Resource(), identity: id, now: c.now}, nil
	default:
		return nil, errors.New("no credential for this kind of identity")
	}
}

// session gives the clients of a request's identity at a vault, and brings the identity's assertion up to date.
func (c *Client) session(r volume.Request, tenant, vault string) (sessionKey, *session, error) {
	key := sessionKey{c.credentialKey(r, tenant), vault}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)

	known, ok := c.logins[key.credentialKey]
	if !ok || known.value.superseded() {
		l := &login{tenant: key.tenant, scopes: []string{c.cloud.Resource() + "/.default"}, now: c.now, after: c.after}
		l.counted = func(err error) { c.metrics.login(key.kind, err) }
		inner, err := c.newCredential(l, r)
		if err != nil {
			return key, nil, err
		}
		l.inner = inner
		known = &idle[*login]{value: l}
		c.logins[key.credentialKey] = known
	}
	l := known.use(now)
	if newest := r.Identity.Assertion; !newest.IsEmpty() {
		l.assertion.Store(&newest)
	}
	if s, ok := c.sessions[key]; ok && s.value.login == l {
		return key, s.use(now), nil
	}
	s := c.newSession(l, vault)
	c.sessions[key] = &idle[*session]{value: s, used: now}
	return key, s, nil
}

func (c *Client) newSession(l *login, vault string) *session {
	options := c.vaultOptions(vault)
	return &session{
		login: l,
		secrets: sync.OnceValues(func() (*azsecrets.Client, error) {
			return azsecrets.NewClient(vault, l, &azsecrets.ClientOptions{ClientOptions: options})
		}),
		certificates: sync.OnceValues(func() (*azcertificates.Client, error) {
			return azcertificates.NewClient(vault, l, &azcertificates.ClientOptions{ClientOptions: options})
		}),
		keys: sync.OnceValues(func() (*azkeys.Client, error) {
			return azkeys.NewClient(vault, l, &azkeys.ClientOptions{ClientOptions: options})
		}),
	}
}

// forget drops a login that a vault has not accepted, with the token that the SDK keeps: the next one starts anew. Its
// sessions at other vaults go when they are used next.
func (c *Client) forget(key sessionKey, refused *login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.logins[key.credentialKey]; ok && known.value == refused {
		delete(c.logins, key.credentialKey)
		delete(c.sessions, key)
	}
}

const (
	idleLogin  = time.Hour
	sweepPause = time.Minute
)

// sweep drops what nobody has used for idleLogin. It runs when something is used, so that no timer is needed; the
// price is that the last few stay until then. The caller holds c.mu.
func (c *Client) sweep(now time.Time) {
	if now.Sub(c.swept).Abs() < sweepPause {
		return
	}
	c.swept = now
	before := now.Add(-idleLogin)
	sweep(c.logins, before)
	sweep(c.sessions, before)
	c.challenges.sweep(before)
	c.gates.sweep(before)
}

// idle is a value and when it was used last.
type idle[T any] struct {
	value T
	used  time.Time
}

func (i *idle[T]) use(now time.Time) T {
	i.used = now
	return i.value
}

func sweep[K comparable, T any](all map[K]*idle[T], before time.Time) {
	for key, entry := range all {
		if entry.used.Before(before) {
			delete(all, key)
		}
	}
}
