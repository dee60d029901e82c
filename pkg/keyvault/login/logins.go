package login

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"maps"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// idleLogin is how long an unused login stays. departedLogin applies to a login without volumes. It is longer
	// than the kubelet's longest pause between two attempts to mount (2m2s), and than a call.
	idleLogin     = time.Hour
	departedLogin = 3 * time.Minute
	sweepPause    = time.Minute
	// maxLogins bounds all logins: a pod can have hundreds of volumes, each with its own identity. One takes 6 to 13
	// KB.
	maxLogins = 1024
)

// CertificateParser parses a client certificate for a namespace, which is empty for the node's own. final means that
// the same input gives the same result again.
type CertificateParser func(ctx context.Context, namespace string, content, password []byte) (
	chain []*x509.Certificate, key crypto.PrivateKey, final bool, err error)

// Options of [New].
type Options struct {
	Cloud            azure.Cloud
	Sender           *azure.Sender          // to Entra ID
	Metadata         *azure.Sender          // to the node's metadata service
	TryTimeout       time.Duration          // of one attempt of a request to Entra ID; 0 means azure.TryTimeout
	Credential       azcore.TokenCredential // replaces the login of every request; usually nil
	ClusterFile      string
	ReadFile         func(name string) ([]byte, error)
	ParseCertificate CertificateParser
	Now              func() time.Time
	After            func(time.Duration) <-chan time.Time
	Random           func() float64 // in [0, 1), for jitter; nil means math/rand
	Logger           klog.Logger    // has a line for each new reason why a good token is not renewed; the zero value discards
}

// Key decides who may share a token. A client id is not a secret, so it never suffices. The key also has the service
// account that Entra ID federates, or a digest of the secret. A service account with the same name may be created
// again, so the key has its UID and issuer too. Each of its pods also proves itself, see [Login.Prove]. The node's
// own identities are available to every pod that the operator's policy permits. Their keys differ from those of a pod
// that presents the same login itself.
type Key struct {
	kind                      volume.IdentityKind
	tenant, clientID          string            // managed identities have no tenant here
	objectID, resourceID      string            // managed
	namespace, serviceAccount string            // workload
	issuer, serviceAccountUID string            // workload: of the token, which may have no UID
	presented                 [sha256.Size]byte // servicePrincipal and cluster: HMAC with a key of this process
}

// InTenant returns the key of the same identity in a tenant. An empty tenant means the one of the vault.
func (k Key) InTenant(tenant string) Key {
	if k.tenant = strings.ToLower(tenant); k.isMetadata() {
		k.tenant = ""
	}
	return k
}

func (k Key) isMetadata() bool {
	return k.kind == volume.Managed || k.kind == volume.Cluster && k.presented == [sha256.Size]byte{}
}

// Logins holds the logins of all identities. It is safe for concurrent use.
type Logins struct {
	options  Options
	host     string // of the authority
	metadata *metadataService
	macKey   [32]byte // of this process, see digest
	tokens   *prometheus.CounterVec

	mu     sync.Mutex
	known  map[Key]*Login
	owners map[Key]map[pod]int // number of volumes; the keys have no tenant, because a volume may read vaults of several
	swept  time.Time
}

// New makes an empty set of logins. It registers its metrics if r is not nil. It sends no request.
func New(o Options, r prometheus.Registerer) (*Logins, error) {
	authority, err := url.Parse(o.Cloud.AuthorityHost)
	if err != nil {
		return nil, err
	}
	l := &Logins{
		options: o, host: authority.Host, tokens: newTokens(),
		metadata: newMetadataService(o.Metadata),
		known:    map[Key]*Login{}, owners: map[Key]map[pod]int{},
	}
	_, _ = rand.Read(l.macKey[:]) // never fails: it ends the process instead
	if r != nil {
		err = r.Register(l.tokens)
	}
	return l, err
}

// KeyOf returns the key of a request's identity, in the tenant that the request names.
func (l *Logins) KeyOf(r volume.Request) Key {
	id := r.Identity
	key := Key{
		kind: id.Kind, clientID: strings.ToLower(id.ClientID),
		objectID: strings.ToLower(id.ObjectID), resourceID: strings.ToLower(id.ResourceID),
	}
	switch KindOf(id) {
	case ByAssertion:
		key.namespace, key.serviceAccount = r.Pod.Namespace, r.Pod.ServiceAccount
		key.issuer, key.serviceAccountUID = id.Issuer, id.ServiceAccountUID
	case BySecret, ByCertificate:
		key.presented = l.digest(id.ClientSecret.Reveal(), id.ClientCertificate.Reveal(), id.ClientCertificatePassword.Reveal())
	}
	return key.InTenant(id.TenantID)
}

// digest represents secrets in the key of a map. It has a secret key, so that values cannot be guessed from it.
func (l *Logins) digest(parts ...[]byte) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, l.macKey[:])
	for _, part := range parts {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part)))
		mac.Write(part)
	}
	mac.Sum(sum[:0])
	return sum
}

// Of returns the login of a request's identity in a tenant. The error is [ErrNoLogin].
func (l *Logins) Of(r volume.Request, tenant string) (*Login, error) {
	key := l.KeyOf(r).InTenant(tenant)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	if now.Sub(l.swept).Abs() >= sweepPause {
		l.sweep(now)
	}
	known, ok := l.known[key]
	if !ok || known.unusable() {
		credential, err := l.newCredential(key.tenant, r)
		if err != nil {
			return nil, ErrNoLogin
		}
		login := l.newLogin(key, credential)
		if ok {
			login.proofs, login.throttle = known.proofs, known.throttle
		}
		l.makeRoom()
		known, l.known[key] = login, login
	}
	known.used = now
	return known, nil
}

// Proven reports whether an owner may share the values that its identity has read from vaults of a tenant. It is
// false only for a pod that has not proven itself to its workload identity.
func (l *Logins) Proven(o Owner, tenant string) bool {
	if l.options.Credential != nil || o.Key.kind != volume.Workload {
		return true
	}
	l.mu.Lock()
	known, ok := l.known[o.Key.InTenant(tenant)]
	if ok {
		known.used = l.options.Now()
	}
	l.mu.Unlock()
	return ok && known.proofs.has(o.pod)
}

// Owner is a pod with an identity of one of its volumes.
type Owner struct {
	Key Key // without a tenant: a volume may read vaults of several
	pod pod
}

// OwnerOf returns the owner of a request's volume.
func (l *Logins) OwnerOf(r volume.Request) Owner { return Owner{l.KeyOf(r).InTenant(""), podOf(r)} }

// Hold counts a volume of an owner. A login with volumes stays longer.
func (l *Logins) Hold(o Owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owners[o.Key] == nil {
		l.owners[o.Key] = map[pod]int{}
	}
	l.owners[o.Key][o.pod]++
}

// Release undoes Hold. With its last volume, the proof of a pod ends. last reports whether the identity has no volume
// left.
func (l *Logins) Release(o Owner) (last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pods := l.owners[o.Key]
	if pods[o.pod]--; pods[o.pod] > 0 {
		return false
	}
	delete(pods, o.pod)
	for key, login := range l.known {
		if key.InTenant("") == o.Key {
			login.proofs.drop(o.pod)
		}
	}
	if len(pods) > 0 {
		return false
	}
	delete(l.owners, o.Key)
	return true
}

// Tidy drops logins that were not used for an hour, and those without volumes three minutes after their last use.
func (l *Logins) Tidy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(l.options.Now())
}

func (l *Logins) sweep(now time.Time) {
	l.swept = now
	for key, login := range l.known {
		pods, idle := l.owners[key.InTenant("")], now.Sub(login.used)
		if idle > idleLogin || len(pods) == 0 && idle > departedLogin {
			delete(l.known, key)
		}
		login.proofs.sweep(pods, now.Add(-departedLogin))
	}
}

// Known counts the logins, and the pods with a proof or a refusal.
func (l *Logins) Known() (logins, pods int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, login := range l.known {
		pods += login.proofs.count()
	}
	return len(l.known), pods
}

// makeRoom drops logins when there are too many. It first drops those without a token, which lose only their pauses,
// then the least recently used one. The caller holds l.mu.
func (l *Logins) makeRoom() {
	if len(l.known) < maxLogins {
		return
	}
	maps.DeleteFunc(l.known, func(_ Key, login *Login) bool { return !login.HoldsToken() })
	for len(l.known) >= maxLogins {
		var oldest Key
		var used time.Time
		for key, login := range l.known {
			if used.IsZero() || login.used.Before(used) {
				oldest, used = key, login.used
			}
		}
		delete(l.known, oldest)
	}
}

// logRenewal says why a good token is not renewed. No caller waits for the renewal, so no pod reports it.
func (l *Logins) logRenewal(key Key, err error) {
	id := volume.Identity{Kind: key.kind, ClientID: key.clientID, ObjectID: key.objectID, ResourceID: key.resourceID}
	l.options.Logger.Error(err, "a token is not renewed, and used until its end",
		"identity", Describe(id), "tenant", key.tenant, "namespace", key.namespace, "serviceAccount", key.serviceAccount)
}
