package devcloud

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Issuer signs service account tokens as the API server of a cluster does. The cloud knows the keys of its issuers; the
// federated credentials of an identity decide which tokens it accepts.
type Issuer struct {
	cloud *Cloud
	url   string
	keyID string
	key   func() (*rsa.PrivateKey, error)
}

// keySet holds the public keys of an issuer, by key id.
type keySet map[string]func() (crypto.PublicKey, error)

// NewIssuer adds an issuer with a key of its own. The url is only a name and never fetched. It replaces an issuer with
// the same url, like a change of a cluster's signing key.
func (c *Cloud) NewIssuer(url string) *Issuer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keyed++
	i := &Issuer{cloud: c, url: url, keyID: newVersion(), key: signingKey(c.keyed)}
	c.minters[url] = i
	c.issuers[url] = keySet{i.keyID: func() (crypto.PublicKey, error) {
		key, err := i.key()
		if err != nil {
			return nil, err
		}
		return key.Public(), nil
	}}
	return i
}

// TrustIssuer adds the keys of a real issuer: jwks is the JSON that a cluster serves at /openid/v1/jwks. Only RSA keys are
// used, as by Entra ID.
func (c *Cloud) TrustIssuer(url string, jwks []byte) error {
	var set struct {
		Keys []struct {
			Kid, Kty string
			N, E     string
		}
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		return fmt.Errorf("devcloud: keys of %s: %w", url, err)
	}
	keys := keySet{}
	for _, k := range set.Keys {
		n, errN := jwt.NewParser().DecodeSegment(k.N)
		e, errE := jwt.NewParser().DecodeSegment(k.E)
		if k.Kty != "RSA" || errN != nil || errE != nil {
			continue
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		keys[k.Kid] = func() (crypto.PublicKey, error) { return public, nil }
	}
	if len(keys) == 0 {
		return fmt.Errorf("devcloud: keys of %s: no RSA key among them", url)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.minters, url)
	c.issuers[url] = keys
	return nil
}

// Issuer finds an issuer of NewIssuer; nil means that there is none.
func (c *Cloud) Issuer(url string) *Issuer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.minters[url]
}

// SetIssuerReachable decides whether Entra ID can fetch the keys of an issuer. It can at first.
func (c *Cloud) SetIssuerReachable(url string, reachable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unreachable[url] = !reachable
}

// URL is the claim iss of the issuer's tokens.
func (i *Issuer) URL() string { return i.url }

// ServiceAccountToken is the content of a token. Namespace and ServiceAccount are required.
type ServiceAccountToken struct {
	Namespace, ServiceAccount string
	ServiceAccountUID         string        // empty means the same for the same names
	PodName, PodUID           string        // the pod that the token is bound to; empty means none
	Audience                  string        // empty means DefaultAudience
	Issued                    time.Time     // zero means now
	Life                      time.Duration // 0 means one hour, the default of Kubernetes
}

// Token signs a service account token, with the claims of Kubernetes (KEP-1205 and KEP-4193).
func (i *Issuer) Token(t ServiceAccountToken) (string, error) {
	if t.Namespace == "" || t.ServiceAccount == "" {
		return "", errors.New("devcloud: a service account token needs a namespace and a service account")
	}
	if t.Issued.IsZero() {
		t.Issued = i.cloud.now()
	}
	kubernetes := map[string]any{
		"namespace":      t.Namespace,
		"serviceaccount": map[string]string{"name": t.ServiceAccount, "uid": cmp.Or(t.ServiceAccountUID, uidOf(t.Namespace, t.ServiceAccount))},
	}
	if t.PodName != "" {
		kubernetes["pod"] = map[string]string{"name": t.PodName, "uid": t.PodUID}
	}
	return i.Sign(jwt.MapClaims{
		"iss": i.url, "sub": "system:serviceaccount:" + t.Namespace + ":" + t.ServiceAccount,
		"aud": []string{cmp.Or(t.Audience, DefaultAudience)},
		"iat": t.Issued.Unix(), "nbf": t.Issued.Unix(), "exp": t.expiry().Unix(),
		"jti": newGUID(), "kubernetes.io": kubernetes,
	})
}

func (t ServiceAccountToken) expiry() time.Time { return t.Issued.Add(cmp.Or(t.Life, time.Hour)) }

// Tokens returns what the kubelet passes to a CSI driver as csi.storage.k8s.io/serviceAccount.tokens: a JSON object from
// audience to token and expiry.
func (i *Issuer) Tokens(t ServiceAccountToken) (string, error) {
	if t.Issued.IsZero() {
		t.Issued = i.cloud.now()
	}
	token, err := i.Token(t)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{cmp.Or(t.Audience, DefaultAudience): map[string]string{
		"token": token, "expirationTimestamp": t.expiry().UTC().Format(time.RFC3339),
	}})
	return string(text), err
}

// Sign signs any claims, also wrong ones.
func (i *Issuer) Sign(claims map[string]any) (string, error) {
	key, err := i.key()
	if err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims))
	t.Header["kid"] = i.keyID
	return t.SignedString(key)
}

// uidOf returns the UID of a service account that was never deleted: the same in all of its tokens.
func uidOf(namespace, name string) string { return stableGUID("serviceaccount", namespace, name) }
