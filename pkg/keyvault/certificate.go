package keyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The content types of a secret that holds a certificate with its key.
// https://learn.microsoft.com/azure/key-vault/certificates/about-certificates
const (
	contentPFX = "application/x-pkcs12"
	contentPEM = "application/x-pem-file"
)

// bundle is a certificate with its private key and its CAs.
type bundle struct {
	certs []certificate // leaf first, then in file order
	key   privateKey
	pfx   []byte // as it came; nil when the content was PEM

	// opaque is set when Go cannot read what the PKCS#12 file holds. Then there is only pfx, to be passed on.
	opaque error
}

// certificate is a certificate that Go could parse, or only its bytes: Go knows no P-256K.
type certificate struct {
	der    []byte
	parsed *x509.Certificate
}

// privateKey is a key that Go could parse, or only its PEM block.
type privateKey struct {
	parsed crypto.PrivateKey
	block  *pem.Block
	exact  bool // block is PKCS#8 just as OpenSSL would write it
}

// The ways in which the content of a certificate cannot be used; each is the end of a sentence.
var (
	errNoKey        = errors.New("holds no private key: the certificate's key is not exportable; make it exportable, or ask for the public certificate")
	errNoCert       = errors.New("holds no certificate")
	errManyCerts    = fmt.Errorf("holds more than %d certificates", maxCerts)
	errManyKeys     = errors.New("holds several private keys")
	errEncryptedKey = errors.New("holds an encrypted private key; store it without a password")
	errBrokenPEM    = errors.New("is not readable PEM")
	errUnreadable   = errors.New("is not readable")
	errNoLeaf       = errors.New("holds no certificate that belongs to its private key")
	errOpaque       = errors.New("holds a key or a certificate that is not read here (such as a certificate that is not DER); issue it with the content type " +
		contentPEM + ", or ask for its PFX alone")
)

// unpack takes apart what a certificate's secret holds, or the leaf that the certificates interface gave.
func (c *Client) unpack(ctx context.Context, o volume.Object, g *got) (*bundle, error) {
	if g.der != nil {
		return &bundle{certs: []certificate{newCertificate(g.der)}}, nil
	}
	if b := g.unpacked.Load(); b != nil {
		return b, nil
	}
	var b *bundle
	var err error
	switch mediaType(g.contentType) {
	case contentPFX:
		var raw []byte
		if raw, err = decodeBase64(g.value); err != nil {
			err = errors.New("is not the base64 text of a PKCS#12 file")
			break
		}
		b, err = c.decode(ctx, raw, splitPFX)
	case contentPEM:
		b, err = c.decode(ctx, g.value.Reveal(), splitPEM)
	default:
		err = errors.New("holds no certificate: its content type is neither " + contentPFX + " nor " + contentPEM)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%s: waiting for its decoding: %w", label(o), ctx.Err())
	case err != nil:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s %v", label(o), err)
	}
	g.unpacked.Store(b)
	return b, nil
}

// decodeTimeout bounds the decoding of one certificate, which takes milliseconds.
const decodeTimeout = 10 * time.Second

// decode runs split beside the caller. Whoever can write a certificate chooses how long it takes to decode, by the size
// of its numbers and, up to maxIterations, by its key derivations, and no library lets itself be interrupted. So it is
// given up after decodeTimeout, and runs at most once at a time for the same content.
func (c *Client) decode(ctx context.Context, content []byte, split func([]byte) (*bundle, error)) (*bundle, error) {
	digest := c.digest(content)
	decoded := c.decoding.DoChan(string(digest[:]), func() (any, error) {
		var b *bundle
		err := guarded(func() (err error) {
			b, err = split(content)
			return err
		})
		return b, err
	})
	timer := time.NewTimer(decodeTimeout)
	defer timer.Stop()
	select {
	case result := <-decoded:
		switch {
		case errors.Is(result.Err, errPanic):
			return nil, errUnreadable
		case result.Err != nil:
			return nil, result.Err
		}
		return result.Val.(*bundle), nil
	case <-timer.C:
		return nil, errSlow
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func mediaType(s string) string {
	if media, _, err := mime.ParseMediaType(s); err == nil {
		return media
	}
	return strings.ToLower(strings.TrimSpace(s))
}

// splitPEM reads a key and certificates in any order. Blocks of other types, such as EC PARAMETERS, say nothing that
// the key does not say too.
func splitPEM(content []byte) (*bundle, error) {
	var b bundle
	for {
		var block *pem.Block
		block, content = pem.Decode(content)
		if block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			b.certs = append(b.certs, newCertificate(block.Bytes))
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, errEncryptedKey
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && b.key.block != nil:
			return nil, errManyKeys
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key, err := newPrivateKey(block)
			if err != nil {
				return nil, err
			}
			b.key = key
		}
	}
	switch {
	case len(b.certs) == 0 && b.key.block == nil:
		return nil, errBrokenPEM
	case len(b.certs) == 0:
		return nil, errNoCert
	case b.key.block == nil:
		return nil, errNoKey
	}
	var err error
	b.certs, err = leafFirst(b.key, b.certs)
	return &b, err
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

// pem writes the key. PKCS#8 has the very bytes of OpenSSL's.
func (k privateKey) pem(format volume.KeyFormat) ([]byte, error) {
	if k.exact && format != volume.PKCS1 && format != volume.SEC1 {
		return pem.EncodeToMemory(k.block), nil
	}
	switch key := k.parsed.(type) {
	case *rsa.PrivateKey:
		if format == volume.PKCS1 {
			return encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), nil
		}
	case *ecdsa.PrivateKey:
		if format == volume.SEC1 {
			der, err := x509.MarshalECPrivateKey(key)
			return encode("EC PRIVATE KEY", der), err
		}
	case nil:
		if format == volume.SEC1 && k.block.Type == "EC PRIVATE KEY" || format != volume.SEC1 && format != volume.PKCS1 {
			return pem.EncodeToMemory(k.block), nil
		}
	}
	switch format {
	case volume.PKCS1:
		return nil, errors.New("has no RSA key, so that keyFormat pkcs1 is not possible; use pkcs8")
	case volume.SEC1:
		return nil, errors.New("has no EC key that can be written as keyFormat sec1; use pkcs8")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.parsed)
	return encode("PRIVATE KEY", der), err
}

// part gives the bytes of one output.
func (b *bundle) part(o volume.Object, part volume.Part) ([]byte, error) {
	if part == volume.PartPFX && b.pfx != nil {
		return b.pfx, nil
	}
	data, err := b.pemPart(o, part)
	if err != nil {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s %v", label(o), err)
	}
	return data, nil
}

func (b *bundle) pemPart(o volume.Object, part volume.Part) ([]byte, error) {
	if b.opaque != nil {
		return nil, b.opaque
	}
	chain := ordered(b.certs, o.ChainOrder)
	switch part {
	case volume.PartCert:
		return encodeCerts(chain[:1]), nil
	case volume.PartChain:
		return encodeCerts(chain), nil
	case volume.PartCA:
		return encodeCerts(chain[1:]), nil
	case volume.PartKey, volume.PartPEM, volume.PartPFX:
		if b.key.block == nil && b.key.parsed == nil {
			return nil, errNoKey
		}
	default:
		return nil, errors.New("has no part " + string(part))
	}
	if part == volume.PartPFX {
		return encodePFX(b.key, chain)
	}
	key, err := b.key.pem(o.KeyFormat)
	if err != nil || part == volume.PartKey {
		return key, err
	}
	return append(key, encodeCerts(chain)...), nil
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
