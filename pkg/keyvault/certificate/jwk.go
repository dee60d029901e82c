package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
)

// JSONWebKey is a public key in the terms of RFC 7517, as the vault returns it.
type JSONWebKey struct {
	Type  string // RSA, RSA-HSM, EC, EC-HSM, oct, ...
	Curve string // of an EC key: P-256, P-256K, ...
	N, E  []byte // of an RSA key
	X, Y  []byte // of an EC key
}

// PublicKeyPEM writes a key as PEM "PUBLIC KEY" (SubjectPublicKeyInfo, RFC 5280). The error is the end of a sentence.
func PublicKeyPEM(key JSONWebKey) ([]byte, error) {
	var der []byte
	var err error
	switch key.Type {
	case "":
		err = errors.New("is no key")
	case "RSA", "RSA-HSM":
		der, err = rsaPublicKey(key)
	case "EC", "EC-HSM":
		der, err = ecPublicKey(key)
	default:
		err = errors.New("is a symmetric key, which has no public half")
	}
	if err != nil {
		return nil, err
	}
	return encode("PUBLIC KEY", der), nil
}

func rsaPublicKey(key JSONWebKey) ([]byte, error) {
	exponent := new(big.Int).SetBytes(key.E)
	if len(key.N) == 0 || !exponent.IsInt64() || exponent.Int64() < 2 || exponent.Int64() > 1<<31-1 {
		return nil, errors.New("is not a readable RSA key")
	}
	return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(exponent.Int64())})
}

// ecPublicKey supports all curves of Key Vault. Go does not support P-256K (secp256k1), so it is not checked that
// such a point is on the curve.
func ecPublicKey(key JSONWebKey) ([]byte, error) {
	var curve elliptic.Curve
	var info struct { // RFC 5480
		Algorithm struct{ ID, Curve asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	info.Algorithm.ID = oidECPublicKey
	size := 32
	switch key.Curve {
	case "P-256":
		curve, info.Algorithm.Curve = elliptic.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	case "P-384":
		size, curve, info.Algorithm.Curve = 48, elliptic.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	case "P-521":
		size, curve, info.Algorithm.Curve = 66, elliptic.P521(), asn1.ObjectIdentifier{1, 3, 132, 0, 35}
	case "P-256K":
		info.Algorithm.Curve = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	default:
		return nil, errors.New("is on a curve that is not known")
	}
	unreadable := errors.New("is not a readable EC key")
	if len(key.X) > size || len(key.Y) > size {
		return nil, unreadable
	}
	point := make([]byte, 1+2*size) // uncompressed, SEC 1 section 2.3.3
	point[0] = 4
	copy(point[1+size-len(key.X):], key.X)
	copy(point[1+2*size-len(key.Y):], key.Y)
	if curve != nil {
		if _, err := ecdsa.ParseUncompressedPublicKey(curve, point); err != nil {
			return nil, unreadable
		}
	} else if bytes.Count(point[1:], []byte{0}) == 2*size {
		return nil, unreadable
	}
	info.Key = asn1.BitString{Bytes: point, BitLength: 8 * len(point)}
	return asn1.Marshal(info)
}
