package keyvault

import (
	"bytes"
	"sync/atomic"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/decode"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/files"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
)

// value is what a vault returned for an object, with its decoded certificate.
type value struct {
	*vault.Value
	decoded *decode.Certificate
	saved   atomic.Int64 // objects that this list has shown to be unchanged
}

// forFiles returns what files are made of.
func (v *value) forFiles() *files.Value {
	of := &files.Value{
		Secret: v.Secret, ContentType: v.ContentType, Backs: v.Backs, Tags: v.Tags, Expires: v.Expires, Version: v.Version,
		DER: v.DER, Decoded: v.decoded, Size: v.Size(),
	}
	if k := v.Key; k != nil && k.Kty != nil {
		of.Key = certificate.JSONWebKey{Type: string(*k.Kty), N: k.N, E: k.E, X: k.X, Y: k.Y}
		if k.Crv != nil {
			of.Key.Curve = string(*k.Crv)
		}
	}
	return of
}

// sameContent reports whether another value decodes to the same certificate.
func (v *value) sameContent(other *vault.Value) bool {
	return v.ContentType == other.ContentType && bytes.Equal(v.Secret.Reveal(), other.Secret.Reveal()) && bytes.Equal(v.DER, other.DER)
}

// Size is the approximate size in bytes, with the bundle, which has a copy of each part of the certificate.
func (v *value) Size() int {
	if certificate.IsContent(v.ContentType) {
		return v.Value.Size() + 2*len(v.Secret.Reveal())
	}
	return v.Value.Size()
}
