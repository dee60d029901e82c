package keyvault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// publicKeyPEM writes a JSON web key as PEM "PUBLIC KEY" (SubjectPublicKeyInfo, RFC 5280).
func publicKeyPEM(o volume.Object, key *azkeys.JSONWebKey) ([]byte, error) {
	der, err := publicKeyDER(key)
	if err != nil {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s %v", label(o), err)
	}
	return encode("PUBLIC KEY", der), nil
}

func publicKeyDER(key *azkeys.JSONWebKey) ([]byte, error) {
	if key == nil || key.Kty == nil {
		return nil, errors.New("is no key")
	}
	switch *key.Kty {
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		exponent := new(big.Int).SetBytes(key.E)
		if len(key.N) == 0 || !exponent.IsInt64() || exponent.Int64() < 2 || exponent.Int64() > 1<<31-1 {
			return nil, errors.New("is not a readable RSA key")
		}
		return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(exponent.Int64())})
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		return ecPublicKeyDER(key)
	default:
		return nil, errors.New("is a symmetric key, which has no public half")
	}
}

func ecPublicKeyDER(key *azkeys.JSONWebKey) ([]byte, error) {
	var curve elliptic.Curve
	var name azkeys.CurveName
	if key.Crv != nil {
		name = *key.Crv
	}
	size := 32
	switch name {
	case azkeys.CurveNameP256:
		curve = elliptic.P256()
	case azkeys.CurveNameP384:
		curve, size = elliptic.P384(), 48
	case azkeys.CurveNameP521:
		curve, size = elliptic.P521(), 66
	case azkeys.CurveNameP256K:
	default:
		return nil, errors.New("is on a curve that is not known")
	}
	if len(key.X) > size || len(key.Y) > size {
		return nil, errors.New("is not a readable EC key")
	}
	point := make([]byte, 1+2*size) // uncompressed, SEC 1 section 2.3.3
	point[0] = 4
	copy(point[1+size-len(key.X):], key.X)
	copy(point[1+2*size-len(key.Y):], key.Y)
	if curve == nil {
		return secp256k1DER(point)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errors.New("is not a readable EC key")
	}
	return x509.MarshalPKIXPublicKey(public)
}

// secp256k1DER writes the one curve of Key Vault that Go does not know (there P-256K), by RFC 5480. Whether the
// point is on the curve is the vault's word.
func secp256k1DER(point []byte) ([]byte, error) {
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
	if err != nil {
		return nil, err
	}
	if bytes.Count(point[1:], []byte{0}) == len(point)-1 {
		return nil, errors.New("is not a readable EC key")
	}
	return asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1},
			Parameters: asn1.RawValue{FullBytes: curve},
		},
		asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
}
