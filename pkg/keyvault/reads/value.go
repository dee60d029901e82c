package reads

import (
	"bytes"
	"sync/atomic"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/decode"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
)

// Value is what a vault returned for an object, with its decoded certificate.
type Value struct {
	*vault.Value
	Decoded *decode.Certificate
	saved   atomic.Int64 // objects that this list has shown to be unchanged
}

// sameContent reports whether another value decodes to the same certificate.
func (v *Value) sameContent(other *vault.Value) bool {
	return v.ContentType == other.ContentType && bytes.Equal(v.Secret.Reveal(), other.Secret.Reveal()) && bytes.Equal(v.DER, other.DER)
}

// Size is the approximate size in bytes, with the bundle, which has a copy of each part of the certificate.
func (v *Value) Size() int {
	if certificate.IsContent(v.ContentType) {
		return v.Value.Size() + 2*len(v.Secret.Reveal())
	}
	return v.Value.Size()
}
