package certificate

import (
	"bytes"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Bundle is a certificate with its CAs, and with its private key if that is exportable. It is immutable and safe for concurrent use. It keeps
// bytes only: parsed keys and certificates take several times as much memory, and a bundle lives as long as its
// volume.
type Bundle struct {
	certs            [][]byte   // DER, the leaf first, then in the order of the file; empty if only pfx can be used
	chain            []int      // indices into certs, each certificate followed by its issuer
	file, keyID      []int      // indices into certs, see [volume.ChainOrderFile] and [volume.ChainOrderKeyID]
	key, traditional *pem.Block // nil if there is none; traditional is PKCS#1 or SEC 1, which not every key has
	complete         *pem.Block // key with its public half; nil if key has it, or if it cannot be computed
	reach            reach
	notAfter         time.Time
	pfx              []byte   // the content, if it is a PKCS#12 file
	written          sync.Map // PKCS#12 files made from PEM, by chain order
	protected        protectedFiles
}

// FromDER makes a bundle of a leaf alone, as the certificates API returns it.
func FromDER(leaf []byte) *Bundle {
	only := []int{0}
	return &Bundle{certs: [][]byte{leaf}, chain: only, file: only, keyID: only, notAfter: newCertificate(leaf).end}
}

// bundle orders the certificates and encodes the key. pfx is the content if that is a PKCS#12 file.
func (c *contents) bundle(pfx []byte) (*Bundle, error) {
	b := &Bundle{pfx: pfx}
	if c.opaque {
		return b, nil
	}
	leaf, err := c.leafFirst()
	if err != nil {
		return nil, err
	}
	if c.key != nil {
		b.key, b.traditional, err = c.key.blocks()
		b.complete = c.key.complete(b.key)
	}
	if err != nil {
		return nil, err
	}
	order, linked := issued(c.certs)
	b.chain, b.reach, b.notAfter = order, reachOf(c.certs, order, linked), c.certs[0].end
	b.file = fileOrder(c.certs, leaf)
	var ok bool
	if b.keyID, ok = byKeyID(c.certs, b.file); !ok {
		b.keyID = b.chain
	}
	for _, cert := range c.certs {
		b.certs = append(b.certs, cert.der)
	}
	return b, nil
}

// NotAfter is the end of the leaf's validity; zero if the leaf cannot be parsed.
func (b *Bundle) NotAfter() time.Time { return b.notAfter }

// Gap returns nil, or that an intermediate certificate is missing, as the end of a sentence about the secret: the file
// has a CA that is not in the chain. Where a chain is required, a leaf alone has a gap too, and what cannot be judged is
// an error.
func (b *Bundle) Gap(required bool) error {
	switch {
	case required && len(b.certs) == 0:
		return errOpaque
	case b.reach.last > 0 && (b.reach.stray || required && b.reach.last == 1):
		return fmt.Errorf("has a gap in its chain: the issuer of certificate %d of the chain is missing; "+
			"import it with its intermediate certificates", b.reach.last)
	}
	return nil
}

// Part returns the bytes of one output. The error is the end of a sentence about the secret.
func (b *Bundle) Part(part volume.Part, order volume.ChainOrder, format volume.KeyFormat) ([]byte, error) {
	switch {
	case part == volume.PartPFX:
		return b.asPFX(order)
	case len(b.certs) == 0:
		return nil, errOpaque
	}
	chain := b.ordered(order)
	switch part {
	case volume.PartLeaf76:
		return leaf76(chain[0]), nil
	case volume.PartCert:
		return encodeCerts(chain[:1]), nil
	case volume.PartChain:
		return encodeCerts(chain), nil
	case volume.PartCA:
		return encodeCerts(chain[1:]), nil
	case volume.PartKey:
		return b.keyPEM(format)
	case volume.PartPEM, volume.PartPEMOrValue:
		key, err := b.keyPEM(format)
		switch {
		case part != volume.PartPEMOrValue:
		case errors.Is(err, ErrNoKey):
			return encodeCerts(chain), nil
		case b.complete != nil: // as the Azure provider writes it
			key = pem.EncodeToMemory(b.complete)
		}
		if err != nil {
			return nil, err
		}
		return append(key, encodeCerts(chain)...), nil
	default:
		return nil, errors.New("has no part " + string(part))
	}
}

// ordered returns the certificates in the given order.
func (b *Bundle) ordered(order volume.ChainOrder) [][]byte {
	certs, indices := slices.Clone(b.certs), b.chain
	switch order {
	case volume.ChainOrderPFX:
		return certs
	case volume.ChainOrderReverse:
		slices.Reverse(certs[1:])
		return certs
	case volume.ChainOrderFile:
		indices = b.file
	case volume.ChainOrderKeyID:
		indices = b.keyID
	}
	for i, index := range indices {
		certs[i] = b.certs[index]
	}
	return certs
}

func (b *Bundle) keyPEM(format volume.KeyFormat) ([]byte, error) {
	is := func(kind string) bool { return b.traditional != nil && b.traditional.Type == kind }
	switch {
	case b.key == nil:
		return nil, ErrNoKey
	case format == volume.PKCS1 && !is("RSA PRIVATE KEY"):
		return nil, errors.New("has no RSA key, so that keyFormat pkcs1 is not possible; use pkcs8")
	case format == volume.SEC1 && !is("EC PRIVATE KEY"):
		return nil, errors.New("has no EC key that can be written as keyFormat sec1; use pkcs8")
	case format == volume.PKCS1, format == volume.SEC1:
		return pem.EncodeToMemory(b.traditional), nil
	default:
		return pem.EncodeToMemory(b.key), nil
	}
}

// HasPFX reports whether the PKCS#12 file of that order exists. Otherwise Part makes it, with slow key derivations.
func (b *Bundle) HasPFX(order volume.ChainOrder) bool {
	_, ok := b.written.Load(order)
	return ok || b.pfx != nil
}

func (b *Bundle) asPFX(order volume.ChainOrder) ([]byte, error) {
	switch {
	case b.key == nil && len(b.certs) > 0:
		return nil, ErrNoKey
	case b.pfx != nil:
		return b.pfx, nil
	}
	if data, ok := b.written.Load(order); ok {
		return data.([]byte), nil
	}
	data, err := b.encodePFX(order)
	if err == nil {
		b.written.Store(order, data)
	}
	return data, err
}

const suchAs = "such as one on P-256K or with explicit EC parameters; use pem"

// encodePFX makes a PKCS#12 file with an empty password and the algorithms of OpenSSL 3. It derives the salts from
// the content, so that the same certificate gives the same bytes. Different bytes would look like a rotation at each
// refresh. Random salts would not protect anything, because the password is empty.
func (b *Bundle) encodePFX(order volume.ChainOrder) ([]byte, error) {
	m, err := b.material(order, "keyvault-csi pfx")
	if err != nil {
		return nil, err
	}
	return m.encode(pkcs12.Modern2023, "")
}

// encode calls the encoder. It names the key by the SHA-1 of its certificate, which protects nothing, and so is allowed in FIPS
// mode. The rest of Modern2023 is AES, and PBKDF2 and HMAC with SHA-256.
func (m material) encode(encoder *pkcs12.Encoder, password string) (der []byte, err error) {
	encoder = encoder.WithRand(bytes.NewReader(m.random))
	fips140.WithoutEnforcement(func() { der, err = encoder.Encode(m.key, m.certs[0], m.certs[1:], password) })
	return der, err
}

// saltBytes is more than the 80 bytes that the encoder reads.
const saltBytes = 1024

// material is what a PKCS#12 file is made of.
type material struct {
	key    any
	certs  []*x509.Certificate
	random []byte // for the salts: derived from all of it, and from what the file is for
}

func (b *Bundle) material(order volume.ChainOrder, use string) (m material, err error) {
	seed := sha256.New()
	for _, der := range b.ordered(order) {
		seed.Write(der)
		m.certs = append(m.certs, &x509.Certificate{Raw: der}) // the encoder reads nothing else, and Go cannot parse every certificate
	}
	if m.key, err = x509.ParsePKCS8PrivateKey(b.key.Bytes); err != nil {
		return m, errors.New("has a key of a kind that cannot be written as PKCS#12, " + suchAs)
	}
	seed.Write(b.key.Bytes)
	m.random, err = hkdf.Key(sha256.New, seed.Sum(nil), nil, use, saltBytes)
	return m, err
}

// encode writes PEM with 64 columns and a final newline (RFC 7468), as OpenSSL does.
func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeCerts(certs [][]byte) []byte {
	var out bytes.Buffer
	for _, der := range certs {
		out.Write(encode("CERTIFICATE", der))
	}
	return out.Bytes()
}

// leaf76 writes a public certificate as the predecessor does: base64 lines of 76 columns, as in MIME.
func leaf76(der []byte) []byte {
	const columns = 76
	var out bytes.Buffer
	out.WriteString("-----BEGIN CERTIFICATE-----\n")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(der)), columns) {
		out.Write(line)
		out.WriteByte('\n')
	}
	out.WriteString("-----END CERTIFICATE-----\n")
	return out.Bytes()
}
