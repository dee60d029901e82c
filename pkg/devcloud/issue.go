package devcloud

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	"software.sslmate.com/src/go-pkcs12"
)

// KeyType is the type and size of a key.
type KeyType string

// The types of key. Key Vault also has P-256K, which Go's library does not support.
const (
	RSA2048 KeyType = "RSA-2048"
	RSA3072 KeyType = "RSA-3072"
	RSA4096 KeyType = "RSA-4096"
	P256    KeyType = "P-256"
	P384    KeyType = "P-384"
	P521    KeyType = "P-521"
)

func generateKey(kind KeyType) (crypto.Signer, error) {
	switch kind {
	case RSA2048, "":
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	}
	return nil, fmt.Errorf("no key type %q", kind)
}

// issuing is the chain that issues the certificates in the vaults. It is separate from the authority of the TLS listener,
// which clients trust.
type issuing struct {
	mu   sync.Mutex
	cas  []*x509.Certificate // from the root downwards
	keys []crypto.Signer
}

// chain returns the root and n intermediates, from the root downwards, and the key of the last.
func (i *issuing) chain(n int) ([]*x509.Certificate, crypto.Signer, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.cas) <= n {
		if err := i.grow(); err != nil {
			return nil, nil, err
		}
	}
	return i.cas[:n+1], i.keys[n], nil
}

func (i *issuing) grow() error {
	key, err := generateKey(P256)
	if err != nil {
		return err
	}
	level := len(i.cas)
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Example Root CA", Organization: []string{"Example"}},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	signer, parent := key, (*x509.Certificate)(nil)
	if level > 0 {
		template.Subject.CommonName = fmt.Sprintf("Example Intermediate CA %d", level)
		signer, parent = i.keys[level-1], i.cas[level-1]
	}
	cert, err := sign(template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	i.cas, i.keys = append(i.cas, cert), append(i.keys, key)
	return nil
}

func (c *Cloud) issue(commonName string, opts *CertificateOptions) (*Certificate, error) {
	key, err := generateKey(opts.KeyType)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		DNSNames:    []string{commonName},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   opts.NotBefore,
		NotAfter:    opts.NotAfter,
	}
	if opts.SelfSigned {
		leaf, err := sign(template, nil, key.Public(), key)
		return &Certificate{Key: key, Leaf: leaf}, err
	}
	cas, signer, err := c.issuing.chain(opts.Intermediates)
	if err != nil {
		return nil, err
	}
	leaf, err := sign(template, cas[len(cas)-1], key.Public(), signer)
	if err != nil {
		return nil, err
	}
	upwards := slices.Clone(cas)
	slices.Reverse(upwards)
	return &Certificate{Key: key, Leaf: leaf, CAs: upwards}, nil
}

// encodeCertificate returns the value of the secret behind a certificate.
func encodeCertificate(cert *Certificate, opts *CertificateOptions) (string, error) {
	certs := append([]*x509.Certificate{cert.Leaf}, cert.CAs...)
	rootFirst := opts.Order == RootFirst || opts.Order == IssuedOrder && opts.ContentType == PKCS12
	if rootFirst {
		slices.Reverse(certs)
	}
	if opts.ContentType == PEMFile {
		return encodePEM(cert.Key, certs, !opts.NotExportable)
	}
	if opts.ContentType != PKCS12 {
		return "", fmt.Errorf("no certificate has the content type %q", opts.ContentType)
	}
	encoder := map[PFXEncoding]*pkcs12.Encoder{
		ModernPFX: pkcs12.Modern2023, LegacyPFX: pkcs12.LegacyDES, PlainPFX: pkcs12.Passwordless,
	}[opts.Encoding]
	if encoder == nil {
		return "", fmt.Errorf("no encoding %q of a PFX", opts.Encoding)
	}
	var pfx []byte
	var err error
	fips140.WithoutEnforcement(func() { // Azure uses these algorithms whatever the FIPS mode of this process is
		if opts.NotExportable {
			pfx, err = encoder.EncodeTrustStore(certs, "")
		} else {
			// The encoder sets the local key id on the first certificate, also if that is the root. Readers find the leaf by
			// its public key.
			pfx, err = encoder.Encode(cert.Key, certs[0], certs[1:], "")
		}
	})
	return base64.StdEncoding.EncodeToString(pfx), err
}

func encodePEM(key crypto.Signer, certs []*x509.Certificate, withKey bool) (string, error) {
	var out bytes.Buffer
	if withKey {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return "", err
		}
		_ = pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: der}) // a buffer returns no error
	}
	for _, cert := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return out.String(), nil
}

func importPFX(pfx []byte) (*Certificate, error) {
	key, first, others, err := pkcs12.DecodeChain(pfx, "")
	if err != nil {
		return nil, err
	}
	cert, err := withLeaf(key, append([]*x509.Certificate{first}, others...))
	if err != nil {
		return nil, err
	}
	cert.Value = base64.StdEncoding.EncodeToString(pfx)
	return cert, nil
}

func importPEM(text []byte) (*Certificate, error) {
	var key any
	var certs []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		var err error
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			cert, err = x509.ParseCertificate(block.Bytes)
			certs = append(certs, cert)
		}
		if err != nil {
			return nil, err
		}
	}
	cert, err := withLeaf(key, certs)
	if err != nil {
		return nil, err
	}
	cert.Value = string(text)
	return cert, nil
}

// withLeaf finds the certificate of a key.
func withLeaf(key any, certs []*x509.Certificate) (*Certificate, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("there is no private key")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, fmt.Errorf("a key of type %T", key)
	}
	for i, cert := range certs {
		if public.Equal(cert.PublicKey) {
			return &Certificate{Key: signer, Leaf: cert, CAs: slices.Delete(slices.Clone(certs), i, i+1)}, nil
		}
	}
	return nil, errors.New("no certificate belongs to the private key")
}
