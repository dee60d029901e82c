package keyvault

import (
	"context"
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
	errGivenUp = fmt.Errorf("takes longer than %v to decode; issue it with an ordinary key and fewer CAs", decodeTimeout)
)

// unpacking is what a vault holds under one name on its way into files, and what it was taken apart into where it is a
// certificate.
type unpacking struct {
	got     *got
	bundle  *bundle
	decoded []*decoded // for the volume to hold
}

func (u *unpacking) hold(entry *decoded) {
	if entry != nil {
		u.decoded = append(u.decoded, entry)
	}
}

// notAfter is the end of a certificate's validity; zero when Go cannot read its leaf, or there is none.
func (u *unpacking) notAfter() time.Time {
	switch {
	case u.bundle != nil:
		return u.bundle.notAfter
	case u.got.der != nil:
		return notAfter(u.got.der)
	default:
		return time.Time{}
	}
}

func notAfter(der []byte) (end time.Time) {
	if cert := newCertificate(der).parsed; cert != nil {
		end = cert.NotAfter
	}
	return end
}

// certificatePart gives the bytes of one output of a certificate.
func (c *Client) certificatePart(ctx context.Context, namespace string, o volume.Object, u *unpacking, part volume.Part) (data []byte, err error) {
	if u.bundle == nil {
		if u.bundle, err = c.unpack(ctx, namespace, u); err != nil {
			return nil, unusableCertificate(ctx, o, err)
		}
	}
	switch {
	case part != volume.PartPFX:
		data, err = u.bundle.part(o, part)
	case u.bundle.pfx:
		data, err = decodeBase64(u.got.value)
	default:
		data, err = c.writePFX(ctx, namespace, o, u)
	}
	if err != nil {
		return nil, unusableCertificate(ctx, o, err)
	}
	return data, nil
}

func unusableCertificate(ctx context.Context, o volume.Object, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: waiting for its decoding: %w", label(o), ctx.Err())
	}
	return volume.Errorf(volume.ErrPrecondition, "%s %v", label(o), err)
}

// unpack takes apart what a certificate's secret holds, or the leaf that the certificates interface gave.
func (c *Client) unpack(ctx context.Context, namespace string, u *unpacking) (*bundle, error) {
	g := u.got
	if g.der != nil {
		return &bundle{certs: []certificate{{der: g.der}}, chain: []int{0}, notAfter: notAfter(g.der)}, nil
	}
	media := mediaType(g.contentType)
	if media != contentPFX && media != contentPEM {
		return nil, errors.New("holds no certificate: its content type is neither " + contentPFX + " nor " + contentPEM)
	}
	value, entry, err := c.decoder.once(ctx, c.content(namespace, []byte(media), g.value.Reveal()), func() (any, error) {
		b, err := split(media, g.value)
		if err != nil {
			return nil, err
		}
		return b.marshal()
	})
	if err != nil {
		return nil, err
	}
	u.hold(entry)
	return unmarshalBundle(value.(kept))
}

func split(media string, value volume.Secret) (*bundle, error) {
	if media == contentPEM {
		return splitPEM(value.Reveal())
	}
	raw, err := decodeBase64(value)
	if err != nil {
		return nil, errors.New("is not the base64 text of a PKCS#12 file")
	}
	return splitPFX(raw)
}

// writePFX makes a PKCS#12 file of PEM, whose key derivations take as long as those of one that is read.
func (c *Client) writePFX(ctx context.Context, namespace string, o volume.Object, u *unpacking) ([]byte, error) {
	b, order := u.bundle, o.ChainOrder // the work may outlive the call
	about := c.content(namespace, []byte("PFX of "+order), u.got.value.Reveal())
	value, entry, err := c.decoder.once(ctx, about, func() (any, error) {
		data, err := b.writePFX(order)
		return kept(data), err
	})
	if err != nil {
		return nil, err
	}
	u.hold(entry)
	return value.(kept), nil
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
	var certs []certificate
	for {
		var block *pem.Block
		block, content = pem.Decode(content)
		if block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			if certs = append(certs, newCertificate(block.Bytes)); len(certs) > maxCerts {
				return nil, errManyCerts
			}
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
	case len(certs) == 0 && b.key.block == nil:
		return nil, errBrokenPEM
	case len(certs) == 0:
		return nil, errNoCert
	case b.key.block == nil:
		return nil, errNoKey
	}
	err := b.settle(certs)
	return &b, err
}
