package keyvault

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
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// bundle is a certificate with its private key and its CAs. Once it is settled, it holds bytes alone: what was parsed on the
// way takes several times as much memory, and bundles are remembered for as long as volumes are mounted.
type bundle struct {
	certs    []certificate // leaf first, then in file order
	chain    []int         // their places, in the order in which they have issued each other
	key      privateKey
	notAfter time.Time // of the leaf; zero when Go cannot read it
	foreign  bool      // there is a certificate that Go cannot read
	pfx      bool      // the content is a PKCS#12 file, which is passed on as it is

	// opaque is set when Go cannot read what the PKCS#12 file holds. Then there is only the file, to be passed on.
	opaque error
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
func (b *bundle) settle(certs []certificate) error {
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

// rememberedBundle is a bundle in the form in which it is sealed.
type rememberedBundle struct {
	Certs                [][]byte
	Chain                []int
	Key, Traditional     rememberedBlock
	NotAfter             int64 // Unix time; 0 when it is not known
	Foreign, PFX, Opaque bool
}

type rememberedBlock struct{ Type, Bytes []byte }

func (b *bundle) marshal() (kept, error) {
	block := func(p *pem.Block) rememberedBlock {
		if p == nil {
			return rememberedBlock{}
		}
		return rememberedBlock{[]byte(p.Type), p.Bytes}
	}
	form := rememberedBundle{
		Chain: b.chain, Key: block(b.key.block), Traditional: block(b.key.traditional), Foreign: b.foreign, PFX: b.pfx, Opaque: b.opaque != nil,
	}
	if !b.notAfter.IsZero() {
		form.NotAfter = b.notAfter.Unix()
	}
	for _, cert := range b.certs {
		form.Certs = append(form.Certs, cert.der)
	}
	return asn1.Marshal(form)
}

func unmarshalBundle(der kept) (*bundle, error) {
	var form rememberedBundle
	if err := unmarshal(der, &form); err != nil {
		return nil, err
	}
	block := func(r rememberedBlock) *pem.Block {
		if len(r.Type) == 0 {
			return nil
		}
		return &pem.Block{Type: string(r.Type), Bytes: r.Bytes}
	}
	b := &bundle{chain: form.Chain, foreign: form.Foreign, pfx: form.PFX, key: privateKey{block: block(form.Key), traditional: block(form.Traditional)}}
	if form.Opaque {
		b.opaque = errOpaque
	}
	if form.NotAfter != 0 {
		b.notAfter = time.Unix(form.NotAfter, 0)
	}
	for _, der := range form.Certs {
		b.certs = append(b.certs, certificate{der: der})
	}
	return b, nil
}

// ordered gives the leaf and then the others in the order that was asked for.
func (b *bundle) ordered(order volume.ChainOrder) []certificate {
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

// part gives the bytes of one output, but for a PKCS#12 file.
func (b *bundle) part(o volume.Object, part volume.Part) ([]byte, error) {
	if b.opaque != nil {
		return nil, b.opaque
	}
	chain := b.ordered(o.ChainOrder)
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
	key, err := b.key.pem(o.KeyFormat)
	if err != nil || part == volume.PartKey {
		return key, err
	}
	return append(key, encodeCerts(chain)...), nil
}

// writePFX gives the PKCS#12 file of what came as PEM.
func (b *bundle) writePFX(order volume.ChainOrder) ([]byte, error) {
	switch {
	case b.key.block == nil:
		return nil, errNoKey
	case b.foreign:
		return nil, errors.New("has a certificate of a kind that cannot be written as PKCS#12")
	}
	return encodePFX(b.key, b.ordered(order))
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
