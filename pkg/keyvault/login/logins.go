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

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// idleLogin is how long a login stays that nobody has used, departedLogin one that no volume uses any more: longer than
	// the kubelet's longest pause between two attempts to mount (2m2s), and than a call.
	idleLogin     = time.Hour
	departedLogin = 3 * time.Minute
	sweepPause    = time.Minute
	// maxLogins bounds all of them: a pod can have hundreds of volumes, each with an identity of its own. One takes 6 to 13 KB.
	maxLogins = 1024
)

// CertificateParser reads a client certificate for a namespace, which is empty for the node's own. final says that the
// result would be the same again.
type CertificateParser func(ctx context.Context, namespace string, content, password []byte) (
	chain []*x509.Certificate, key crypto.PrivateKey, final bool, err error)

// Options of [New].
type Options struct {
	Cloud            azure.Cloud
	Sender           *azure.Sender          // to Entra ID
	Metadata         *azure.Sender          // to the node's metadata service
	Credential       azcore.TokenCredential // logs every request in, whatever its identity; nil as a rule
	ClusterFile      string
	ReadFile         func(name string) ([]byte, error)
	ParseCertificate CertificateParser
	Now              func() time.Time
	After            func(time.Duration) <-chan time.Time
}

// Key is who may share a token. A client id is no secret, so it never suffices: the key also has the service account that
// Entra ID federates, or the secret that was presented. The name of a service account may have another owner next, so the
// key has its UID and issuer too; and each of its pods proves itself, see [Login.Prove]. The node's own identities are
// for whoever the operator's policy lets use them, and have a key of their own even where a pod presents the same login.
type Key struct {
	kind                      volume.IdentityKind
	tenant, clientID          string            // no tenant for managed identities: they have but one
	objectID, resourceID      string            // managed
	namespace, serviceAccount string            // workload
	issuer, serviceAccountUID string            // workload: of the token; a token may name no UID
	presented                 [sha256.Size]byte // servicePrincipal and cluster: HMAC under a key of this process
}

// InTenant is the key of the same identity in a tenant; an empty one stands for that of whatever vault is asked.
func (k Key) InTenant(tenant string) Key {
	if k.tenant = strings.ToLower(tenant); k.isMetadata() {
		k.tenant = ""
	}
	return k
}

func (k Key) isMetadata() bool {
	return k.kind == volume.Managed || k.kind == volume.Cluster && k.presented == [sha256.Size]byte{}
}

// Logins are the logins of all identities. They are safe for concurrent use.
type Logins struct {
	options  Options
	host     string // of the authority
	metadata *metadataService
	macKey   [32]byte // of this process, see digest
	tokens   *prometheus.CounterVec

	mu     sync.Mutex
	known  map[Key]*Login
	owners map[Key]map[pod]int // of how many volumes; the keys have no tenant, because a volume may read vaults of several
	swept  time.Time
}

// New makes an empty set of logins that registers its metrics, if there is a registerer. Nothing is asked yet.
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

// KeyOf gives the key of a request's identity, in the tenant that it names.
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

// digest represents secrets in the key of a map; whoever sees it cannot try values out.
func (l *Logins) digest(parts ...[]byte) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, l.macKey[:])
	for _, part := range parts {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part)))
		mac.Write(part)
	}
	mac.Sum(sum[:0])
	return sum
}

// Of gives the login of a request's identity in a tenant. The error is [ErrNoLogin].
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

// Proven says whether an owner may be served with what its identity was given by a vault of a tenant: always, except for
// a pod that has not proven itself to its workload identity.
func (l *Logins) Proven(o Owner, tenant string) bool {
	if l.options.Credential != nil || o.key.kind != volume.Workload {
		return true
	}
	l.mu.Lock()
	known, ok := l.known[o.key.InTenant(tenant)]
	if ok {
		known.used = l.options.Now()
	}
	l.mu.Unlock()
	return ok && known.proofs.has(o.pod)
}

// Owner is a pod as one identity, of a volume.
type Owner struct {
	key Key
	pod pod
}

// OwnerOf gives the owner of a request's volume.
func (l *Logins) OwnerOf(r volume.Request) Owner { return Owner{l.KeyOf(r).InTenant(""), podOf(r)} }

// Hold counts a volume of an owner, whose login then stays.
func (l *Logins) Hold(o Owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owners[o.key] == nil {
		l.owners[o.key] = map[pod]int{}
	}
	l.owners[o.key][o.pod]++
}

// Release is the opposite of Hold. With its last volume a pod counts as one that has not proven itself. last says that
// there is no volume of the identity any more.
func (l *Logins) Release(o Owner) (last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pods := l.owners[o.key]
	if pods[o.pod]--; pods[o.pod] > 0 {
		return false
	}
	delete(pods, o.pod)
	for key, login := range l.known {
		if key.InTenant("") == o.key {
			login.proofs.drop(o.pod)
		}
	}
	if len(pods) > 0 {
		return false
	}
	delete(l.owners, o.key)
	return true
}

// Tidy forgets logins with their tokens: those that nobody has used for an hour, and three minutes after their last use
// those that no volume uses.
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

// Known counts the logins, and the pods that have proven themselves or were refused.
func (l *Logins) Known() (logins, pods int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, login := range l.known {
		pods += login.proofs.count()
	}
	return len(l.known), pods
}

// makeRoom forgets logins when there are too many: those that have no token, which lose nothing but their pauses, or else
// the one that was used longest ago. The caller holds l.mu.
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
