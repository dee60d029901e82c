package devcloud

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signer signs the access tokens of all tenants. Its key is made with the first token.
type signer struct {
	id  string
	key func() (*rsa.PrivateKey, error)
}

func newSigner() *signer { return &signer{id: newVersion(), key: signingKey(0)} }

var errUnknownKey = errors.New("unknown key id")

// public is the jwt.Keyfunc of access tokens.
func (s *signer) public(t *jwt.Token) (any, error) {
	if t.Header["kid"] != s.id {
		return nil, errUnknownKey
	}
	key, err := s.key()
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// grant is the content of an access token.
type grant struct {
	identity *Identity
	tenant   string
	nation   nation
	method   string // appidacr: "1" for a client secret, "2" for an assertion
	proof    string // see SecretOptions.OfCaller
}

// mint issues an access token with the claims of Entra ID's version 1, which Key Vault accepts. The caller must hold c.mu.
func (c *Cloud) mint(g grant) (token string, life time.Duration, err error) {
	key, err := c.signer.key()
	if err != nil {
		return "", 0, err
	}
	now := c.now()
	claims := jwt.MapClaims{
		"aud": g.nation.resource(), "iss": g.nation.issuer(g.tenant), "idp": g.nation.issuer(g.tenant), "tid": g.tenant,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(c.tokenLife).Unix(),
		"appid": g.identity.ClientID, "appidacr": g.method, "oid": g.identity.ObjectID, "sub": g.identity.ObjectID,
		"proof": g.proof, // not a claim of Entra ID
		"idtyp": "app", "uti": newVersion(), "ver": "1.0",
	}
	if g.identity.ResourceID != "" {
		claims["xms_mirid"] = g.identity.ResourceID
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	t.Header["kid"] = c.signer.id
	token, err = t.SignedString(key)
	return token, c.tokenLife, err
}

// jwks are the keys that verify the access tokens (RFC 7517).
func (s *signer) jwks() any {
	key, err := s.key()
	if err != nil {
		return map[string]any{"keys": []any{}}
	}
	return map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": s.id, "x5t": s.id,
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}}
}
