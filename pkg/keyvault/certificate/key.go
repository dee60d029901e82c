package certificate

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
)

// JSONWebKey is the public half of a key in the terms of RFC 7517, as the vault names them.
type JSONWebKey struct {
	Type  string // RSA, RSA-HSM, EC, EC-HSM, oct, ...
	Curve string // of an EC key: P-256, P-256K, ...
	N, E  []byte // of an RSA key
	X, Y  []byte // of an EC key
}

// PublicKeyPEM writes a key as PEM "PUBLIC KEY" (SubjectPublicKeyInfo, RFC 5280).
func PublicKeyPEM(key JSONWebKey) ([]byte, error) {
	der, err := publicKeyDER(key)
	if err != nil {
		return nil, err
	}
	return encode("PUBLIC KEY", der), nil
}

func publicKeyDER(key JSONWebKey) ([]byte, error) {
	switch key.Type {
	case "":
		return nil, errors.New("is no key")
	case "RSA", "RSA-HSM":
		exponent := new(big.Int).SetBytes(key.E)
		if len(key.N) == 0 || !exponent.IsInt64() || exponent.Int64() < 2 || exponent.Int64() > 1<<31-1 {
			return nil, errors.New("is not a readable RSA key")
		}
		return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(exponent.Int64())})
	case "EC", "EC-HSM":
		return ecPublicKeyDER(key)
	default:
		return nil, errors.New("is a symmetric key, which has no public half")
	}
}

func ecPublicKeyDER(key JSONWebKey) ([]byte, error) {
	var curve elliptic.Curve
	size := 32
	switch key.Curve {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve, size = elliptic.P384(), 48
	case "P-521":
		curve, size = elliptic.P521(), 66
	case "P-256K":
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
