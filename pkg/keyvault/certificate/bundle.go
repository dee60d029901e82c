// Package certificate takes apart what the secret of a certificate holds, and writes its parts.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Bundle is a certificate with its private key and its CAs. Once it is settled, it holds bytes alone: what was parsed on the
// way takes several times as much memory, and bundles are remembered for as long as volumes are mounted.
type Bundle struct {
	certs    []certificate // leaf first, then in file order
	chain    []int         // their places, in the order in which they have issued each other
	key      privateKey
	notAfter time.Time // of the leaf; zero when Go cannot read it
	foreign  bool      // there is a certificate that Go cannot read
	pfx      []byte    // the content, where that is a PKCS#12 file; it is passed on as it is

	// opaque is set when Go cannot read what the PKCS#12 file holds. Then there is only the file, to be passed on.
	opaque error

	mu      sync.Mutex
	written map[volume.ChainOrder][]byte // the PKCS#12 files of what came as PEM
}

// certificate is a certificate that Go could parse, or only its bytes: Go knows no P-256K.
type certificate struct {
	der    []byte
	parsed *x509.Certificate // until the bundle is settled
}

// privateKey is a key that Go could parse, or only its PEM block.
type privateKey struct {
	parsed crypto.PrivateKey // until the bundle is settled
	block  *pem.Block
	exact  bool // block is PKCS#8 just as OpenSSL would write it

	traditional *pem.Block // PKCS#1 or SEC 1, when the bundle is settled; nil where the key has no such form
}

// maxKeyBytes of a private key, encoded: an RSA key of 16,384 bits has 9 KiB. To judge a key takes time by the square of its size.
const maxKeyBytes = 16 << 10

// settle brings the leaf to the front, finds out who issued whom, and writes the key in its forms. Nothing of it is to be
// done again, and nothing that was parsed is needed any more.
func (b *Bundle) settle(certs []certificate) error {
	certs, err := leafFirst(b.key, certs)
	if err != nil {
		return err
	}
	if b.key, err = b.key.settled(); err != nil {
		return err
	}
	b.chain = issued(certs)
	if leaf := certs[0].parsed; leaf != nil {
		b.notAfter = leaf.NotAfter
	}
	b.certs = make([]certificate, 0, len(certs))
	for _, cert := range certs {
		b.foreign = b.foreign || cert.parsed == nil
		b.certs = append(b.certs, certificate{der: cert.der})
	}
	return nil
}

// ordered gives the leaf and then the others in the order that was asked for.
func (b *Bundle) ordered(order volume.ChainOrder) []certificate {
	certs := slices.Clone(b.certs)
	switch order {
	case volume.ChainOrderPFX:
	case volume.ChainOrderReverse:
		slices.Reverse(certs[1:])
	default:
		for i, place := range b.chain {
			certs[i] = b.certs[place]
		}
	}
	return certs
}

// NotAfter is the end of the leaf's validity; zero when Go cannot read it.
func (b *Bundle) NotAfter() time.Time { return b.notAfter }

// Part gives the bytes of one output.
func (b *Bundle) Part(part volume.Part, order volume.ChainOrder, format volume.KeyFormat) ([]byte, error) {
	switch {
	case part == volume.PartPFX:
		return b.asPFX(order)
	case b.opaque != nil:
		return nil, b.opaque
	case part == volume.PartLeaf76:
		return leaf76(b.certs[0].der), nil
	}
	chain := b.ordered(order)
	switch part {
	case volume.PartCert:
		return encodeCerts(chain[:1]), nil
	case volume.PartChain:
		return encodeCerts(chain), nil
	case volume.PartCA:
		return encodeCerts(chain[1:]), nil
	case volume.PartKey, volume.PartPEM:
	default:
		return nil, errors.New("has no part " + string(part))
	}
	key, err := b.key.pem(format)
	if err != nil || part == volume.PartKey {
		return key, err
	}
	return append(key, encodeCerts(chain)...), nil
}

// HasPFX says whether the PKCS#12 file of an order need not be written, which takes key derivations.
func (b *Bundle) HasPFX(order volume.ChainOrder) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pfx != nil || b.written[order] != nil
}

// asPFX gives the PKCS#12 file. One that has to be written is remembered, because its key derivations take long.
func (b *Bundle) asPFX(order volume.ChainOrder) ([]byte, error) {
	switch {
	case b.pfx != nil:
		return b.pfx, nil
	case b.key.block == nil:
		return nil, errNoKey
	case b.foreign:
		return nil, errors.New("has a certificate of a kind that cannot be written as PKCS#12")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if data, ok := b.written[order]; ok {
		return data, nil
	}
	data, err := encodePFX(b.key, b.ordered(order))
	if err == nil {
		if b.written == nil {
			b.written = map[volume.ChainOrder][]byte{}
		}
		b.written[order] = data
	}
	return data, err
}

func newCertificate(der []byte) certificate {
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return certificate{der: der} // may still be one that other programs read
	}
	return certificate{der: der, parsed: parsed}
}

// newPrivateKey reads a key by what it is, whatever the block calls it. A key of a kind that Go does not know stays a
// block, as long as it is DER at all.
func newPrivateKey(block *pem.Block) (privateKey, error) {
	block = &pem.Block{Type: block.Type, Bytes: block.Bytes}
	if len(block.Bytes) > maxKeyBytes {
		return privateKey{}, errBigKey
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return privateKey{parsed: key, block: block}, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return privateKey{parsed: key, block: block}, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return privateKey{parsed: key, block: block}, nil
	}
	var sequence asn1.RawValue
	rest, err := asn1.Unmarshal(block.Bytes, &sequence)
	if err != nil || len(rest) > 0 || sequence.Tag != asn1.TagSequence {
		return privateKey{}, errBrokenPEM
	}
	return privateKey{block: block}, nil
}

// settled is the key as the blocks that it can be written as. PKCS#8 has the very bytes of OpenSSL's.
func (k privateKey) settled() (privateKey, error) {
	written := privateKey{block: k.block}
	switch key := k.parsed.(type) {
	case nil:
		if k.block.Type == "EC PRIVATE KEY" {
			written.traditional = k.block
		}
		return written, nil
	case *rsa.PrivateKey:
		written.traditional = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return privateKey{}, err
		}
		written.traditional = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	}
	if !k.exact {
		der, err := x509.MarshalPKCS8PrivateKey(k.parsed)
		if err != nil {
			return privateKey{}, err
		}
		written.block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	return written, nil
}

// pem writes the key of a settled bundle.
func (k privateKey) pem(format volume.KeyFormat) ([]byte, error) {
	is := func(kind string) bool { return k.traditional != nil && k.traditional.Type == kind }
	switch {
	case k.block == nil:
		return nil, errNoKey
	case format == volume.PKCS1 && !is("RSA PRIVATE KEY"):
		return nil, errors.New("has no RSA key, so that keyFormat pkcs1 is not possible; use pkcs8")
	case format == volume.SEC1 && !is("EC PRIVATE KEY"):
		return nil, errors.New("has no EC key that can be written as keyFormat sec1; use pkcs8")
	case format == volume.PKCS1, format == volume.SEC1:
		return pem.EncodeToMemory(k.traditional), nil
	default:
		return pem.EncodeToMemory(k.block), nil
	}
}

// encode is PEM with 64 columns and a newline at the end (RFC 7468), as OpenSSL writes it.
func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeCerts(certs []certificate) []byte {
	var out bytes.Buffer
	for _, cert := range certs {
		out.Write(encode("CERTIFICATE", cert.der))
	}
	return out.Bytes()
}

// leaf76 is the predecessor's form of a public certificate: the base64 lines of MIME, 76 columns wide.
func leaf76(der []byte) []byte {
	const columns = 76
	var out bytes.Buffer
	out.WriteString("-----BEGIN CERTIFICATE-----\n")
	for text := base64.StdEncoding.EncodeToString(der); text != ""; {
		line := text[:min(columns, len(text))]
		text = text[len(line):]
		out.WriteString(line + "\n")
	}
	out.WriteString("-----END CERTIFICATE-----\n")
	return out.Bytes()
}
