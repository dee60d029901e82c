package keyvault

import (
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
// service account that Entra ID federates, or the secret that was presented. A service account is not its name alone,
// which another may have next; and each of its pods proves itself, see proofs. The node's own identities belong to
// whoever the operator's policy lets use them, and have a key of their own even where a pod presents the same login.
type credentialKey struct {
	kind                      volume.IdentityKind
	tenant, clientID          string            // no tenant for managed identities: they have but one
	objectID, resourceID      string            // managed
	namespace, serviceAccount string            // workload
	issuer, serviceAccountUID string            // workload: of the token; a token may name no UID
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
		key.issuer, key.serviceAccountUID = id.Issuer, id.ServiceAccountUID
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
func (c *Client) newCredential(tenant string, r volume.Request) (azcore.TokenCredential, error) {
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
		return newAssertionCredential(tenant, id.ClientID, options)
	case bySecret:
		return azidentity.NewClientSecretCredential(tenant, id.ClientID, string(id.ClientSecret.Reveal()),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case byCertificate:
		return c.newCertificateCredential(tenant, r, options), nil
	case byMetadata:
		return &metadataCredential{service: c.metadata, resource: c.cloud.Resource(), identity: id, now: c.now}, nil
	default:
		return nil, errors.New("no credential for this kind of identity")
	}
}

// session gives the clients of a request's identity at a vault.
func (c *Client) session(r volume.Request, tenant, vault string) (*session, error) {
	key := sessionKey{c.credentialKey(r, tenant), vault}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept).Abs() >= sweepPause {
		c.sweep(now)
	}
	known, ok := c.logins[key.credentialKey]
	if !ok || known.value.rejected || known.value.superseded() {
		credential, err := c.newCredential(key.tenant, r)
		if err != nil {
			return nil, err
		}
		l := c.newLogin(key.credentialKey, credential)
		if ok {
			l.succeed(known.value)
		}
		known = &idle[*login]{value: l}
		c.makeRoom()
		c.logins[key.credentialKey] = known
	}
	l := known.use(now)
	if s, ok := c.sessions[key]; ok && s.value.login == l {
		return s.use(now), nil
	}
	s := c.newSession(l, vault)
	c.sessions[key] = &idle[*session]{value: s, used: now}
	return s, nil
}

func (c *Client) newLogin(key credentialKey, credential azcore.TokenCredential) *login {
	return &login{
		tenant: key.tenant, scopes: []string{c.cloud.Resource() + "/.default"}, host: c.authority.host,
		inner: credential, now: c.now, after: c.after,
		counted: func(err error) { c.metrics.login(key.kind, err) },
		proofs:  newProofs(c.now),
	}
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

// reject replaces a login whose token a vault has not accepted, with what the SDK keeps of it, when it is used next; the
// sessions at other vaults too. The pods that have proven themselves have done so to Entra ID.
func (c *Client) reject(refused *login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused.rejected = true
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
