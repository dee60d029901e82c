package devcloud

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// KeyOptions are the attributes of one version of a key. The zero value is a new RSA-2048 key.
type KeyOptions struct {
	Version  string // 32 hex digits; empty means a new one; an existing one is replaced
	Tags     map[string]string
	Disabled bool
	Created  time.Time // zero means now

	KeyType KeyType            // of a generated key; empty means RSA2048
	Public  crypto.PublicKey   // *rsa.PublicKey or *ecdsa.PublicKey, instead of a generated key
	JWK     *azkeys.JSONWebKey // shown as it is, instead of either: for keys that Go does not support
}

// SetKey adds a version of a key and returns its id. The vault returns only the public half, as in Azure.
func (v *Vault) SetKey(name string, opts KeyOptions) (version string, err error) {
	key := opts.JWK
	if key == nil {
		public := opts.Public
		if public == nil {
			private, err := generateKey(opts.KeyType)
			if err != nil {
				return "", fmt.Errorf("devcloud: key %s: %w", name, err)
			}
			public = private.Public()
		}
		if key, err = publicJWK(public); err != nil {
			return "", fmt.Errorf("devcloud: key %s: %w", name, err)
		}
	}
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	ver := newKeyVersion(opts, key, v.changed())
	v.add(Keys, name, ver)
	return ver.id, nil
}

func newKeyVersion(opts KeyOptions, key *azkeys.JSONWebKey, now time.Time) *version {
	ver := &version{
		id:      strings.ToLower(cmp.Or(opts.Version, newVersion())),
		created: opts.Created, disabled: opts.Disabled, tags: maps.Clone(opts.Tags), jwk: key,
	}
	if ver.created.IsZero() {
		ver.created = now
	}
	ver.updated = ver.created
	return ver
}

// publicJWK returns a public key in the form of RFC 7517 and RFC 7518, section 6.
func publicJWK(public crypto.PublicKey) (*azkeys.JSONWebKey, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return &azkeys.JSONWebKey{
			Kty: new(azkeys.KeyTypeRSA),
			N:   key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(),
			KeyOps: operations("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"),
		}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, X, Y
		if err != nil {
			return nil, err
		}
		half := (len(point) - 1) / 2
		return &azkeys.JSONWebKey{
			Kty: new(azkeys.KeyTypeEC), Crv: new(azkeys.CurveName(key.Params().Name)),
			X: point[1 : 1+half], Y: point[1+half:],
			KeyOps: operations("sign", "verify"),
		}, nil
	}
	return nil, fmt.Errorf("no JSON web key for a %T", public)
}

func operations(names ...azkeys.KeyOperation) []*azkeys.KeyOperation {
	out := make([]*azkeys.KeyOperation, 0, len(names))
	for _, name := range names {
		out = append(out, &name)
	}
	return out
}

// describeKey sets the type and size of a certificate's key.
func describeKey(properties *azcertificates.KeyProperties, public crypto.PublicKey) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		properties.KeyType = new(azcertificates.KeyTypeRSA)
		properties.KeySize = new(int32(key.N.BitLen())) //nolint:gosec // at most a few thousand
	case *ecdsa.PublicKey:
		properties.KeyType = new(azcertificates.KeyTypeEC)
		properties.KeySize = new(int32(key.Params().BitSize)) //nolint:gosec // at most 521
		properties.Curve = new(azcertificates.CurveName(key.Params().Name))
	}
}

func (v *Vault) keyBundle(o *object, ver *version) any {
	key := *ver.jwk
	key.KID = new(azkeys.ID(v.id(Keys, o.name, ver.id)))
	return azkeys.KeyBundle{
		Key: &key, Attributes: keyAttributes(ver), Tags: pointers(ver.tags), Managed: managed(ver),
	}
}

func (v *Vault) keyItem(id string, ver *version) *azkeys.KeyProperties {
	return &azkeys.KeyProperties{
		KID: new(azkeys.ID(id)), Attributes: keyAttributes(ver), Tags: pointers(ver.tags), Managed: managed(ver),
	}
}

func keyAttributes(ver *version) *azkeys.KeyAttributes {
	return &azkeys.KeyAttributes{
		Enabled: new(!ver.disabled), Created: &ver.created, Updated: &ver.updated,
		NotBefore: ver.notBefore, Expires: ver.expires,
		RecoveryLevel: new(recoveryLevel), RecoverableDays: new(recoverableDays),
	}
}
