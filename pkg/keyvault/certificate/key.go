package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
)

// maxKeyBytes is the maximum size of a private key, as DER. An RSA key of 16,384 bits has 9 KiB. The time to validate
// a key grows with the square of its size.
const maxKeyBytes = 16 << 10

// privateKey is a key while its file is read.
type privateKey struct {
	parsed crypto.PrivateKey // nil: Go does not support its type
	block  pem.Block
	exact  bool   // block is PKCS#8 with the bytes that OpenSSL writes
	id     []byte // identifies its certificate; nil: unknown
}

// newPrivateKey parses a key by its DER, because the type of its PEM block may be wrong. A key that Go does not
// support stays DER.
func newPrivateKey(kind string, der []byte) (*privateKey, error) {
	if len(der) > maxKeyBytes {
		return nil, errBigKey
	}
	key := &privateKey{block: pem.Block{Type: kind, Bytes: der}}
	if parsed, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		key.parsed = parsed
	} else if parsed, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		key.parsed = parsed
	} else if parsed, err := x509.ParseECPrivateKey(der); err == nil {
		key.parsed = parsed
	}
	var value asn1.RawValue
	if key.parsed == nil && (unmarshal(der, &value) != nil || value.Tag != asn1.TagSequence) {
		return nil, errBrokenPEM
	}
	return key, nil
}

// blocks returns the key as PKCS#8, with the bytes that OpenSSL writes, and as PKCS#1 or SEC 1 if it has that form. A
// key that Go does not support is returned unchanged.
func (k *privateKey) blocks() (pkcs8, traditional *pem.Block, err error) {
	pkcs8 = &k.block
	switch key := k.parsed.(type) {
	case nil:
		if k.block.Type == "EC PRIVATE KEY" {
			traditional = &k.block
		}
		return pkcs8, traditional, nil
	case *rsa.PrivateKey:
		traditional = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, nil, err
		}
		traditional = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	}
	if !k.exact {
		der, err := x509.MarshalPKCS8PrivateKey(k.parsed)
		if err != nil {
			return nil, nil, err
		}
		pkcs8 = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	return pkcs8, traditional, nil
}

// complete returns the key as PKCS#8 with its public half, which the block of an exact EC key may lack; nil if there is nothing to add.
func (k *privateKey) complete(pkcs8 *pem.Block) *pem.Block {
	if !k.exact || k.parsed == nil {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.parsed)
	if err != nil || bytes.Equal(der, pkcs8.Bytes) {
		return nil
	}
	return &pem.Block{Type: pkcs8.Type, Bytes: der}
}

// public returns the public key in the form of certificate.public, or nil if it is not known. Of the keys that Go
// does not support, only EC keys may contain it.
func (k *privateKey) public() []byte {
	if k.parsed != nil {
		pair, ok := k.parsed.(interface{ Public() crypto.PublicKey }) // not crypto.Signer: X25519 keys cannot sign
		if !ok {
			return nil
		}
		der, err := x509.MarshalPKIXPublicKey(pair.Public())
		if err != nil {
			return nil
		}
		return publicKeyBits(der)
	}
	der := k.block.Bytes
	var wrapped pkcs8
	if unmarshal(der, &wrapped) == nil {
		if !wrapped.isEC() {
			return nil
		}
		der = wrapped.Key
	}
	var key ecPrivateKey
	if unmarshal(der, &key) != nil {
		return nil
	}
	return key.Public.Bytes
}

// pkcs8 is a PrivateKeyInfo (RFC 5208). It ignores attributes and a copy of the public key, which may follow.
type pkcs8 struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

var oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}

func (k pkcs8) isEC() bool { return k.Algorithm.Algorithm.Equal(oidECPublicKey) }

// ecPrivateKey is the structure of RFC 5915.
type ecPrivateKey struct {
	Version    int
	Key        []byte
	Parameters asn1.RawValue  `asn1:"optional,explicit,tag:0"`
	Public     asn1.BitString `asn1:"optional,explicit,tag:1"`
}

// newPKCS8Key reads the PKCS#8 of a PKCS#12 file. It writes it as OpenSSL does: no attributes, and no curve
// parameters in an EC key, because the algorithm has them. Go would also add a missing public key to an EC key, as
// Java writes it.
func newPKCS8Key(der []byte) (*privateKey, error) {
	var info pkcs8
	if err := unmarshal(der, &info); err != nil {
		return nil, err
	}
	info.Version = 0
	var ec ecPrivateKey
	if info.isEC() && unmarshal(info.Key, &ec) == nil {
		ec.Parameters = asn1.RawValue{}
		if written, err := asn1.Marshal(ec); err == nil {
			info.Key = written
		}
	}
	written, err := asn1.Marshal(info)
	if err != nil {
		return nil, errNotDER
	}
	key, err := newPrivateKey("PRIVATE KEY", written)
	if err == nil {
		key.exact = info.isEC()
	}
	return key, err
}
