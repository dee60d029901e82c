package devcloud

import (
	"cmp"
	"crypto"
	"crypto/fips140"
	"crypto/sha1" //nolint:gosec // the thumbprint of a certificate is its SHA-1
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
)

// The content types of the secret behind a certificate.
const (
	PKCS12  = "application/x-pkcs12"
	PEMFile = "application/x-pem-file"
)

// Order is the order of the certificates in the secret behind a certificate.
type Order string

// The orders. Key Vault writes certificates that it issued root first into a PFX and leaf first into a PEM file.
// Imported ones keep their order.
const (
	IssuedOrder Order = "" // as Key Vault issues: root first in a PFX, leaf first in a PEM file
	LeafFirst   Order = "leaf-first"
	RootFirst   Order = "root-first"
)

// PFXEncoding is how a PFX is encrypted. The password is always empty, as in Key Vault.
type PFXEncoding string

// The encodings of a PFX.
const (
	ModernPFX PFXEncoding = ""       // AES-256 and SHA-256
	LegacyPFX PFXEncoding = "legacy" // 3DES and SHA-1
	PlainPFX  PFXEncoding = "plain"  // neither encryption nor MAC
)

// CertificateOptions say what SetCertificate puts into the vault. The zero value is a PFX with an RSA-2048 key, issued
// for NAME.example.com by a root.
type CertificateOptions struct {
	Version  string // 32 hex digits; empty means a new one; an existing one is replaced
	Tags     map[string]string
	Disabled bool
	Created  time.Time // zero means now

	ContentType string      // PKCS12 or PEMFile; empty means PKCS12
	Order       Order       // of the certificates in the secret
	Encoding    PFXEncoding // of a PFX

	// Pending adds a version that is not issued yet: it has no certificate, and neither a secret nor a key.
	Pending bool

	// NotExportable leaves the private key out of the secret, as Key Vault does for such a policy and for HSM keys.
	NotExportable bool

	KeyType    KeyType // empty means RSA2048
	CommonName string  // also the only DNS name; empty means NAME.example.com
	SelfSigned bool    // not issued by the cloud's certificate authority
	// Intermediates is the number of certificates between root and leaf. Root and intermediates are the same for all
	// certificates of a cloud, and are in the secret with the leaf.
	Intermediates       int
	NotBefore, NotAfter time.Time // zero means an hour ago, and a year after that

	// PFX or PEM is imported as it is instead of issuing anything: a PKCS#12 file without a password, or PEM blocks
	// with a PKCS#8 key. For content that SetCertificate cannot read use SetSecret with Kid, Managed and ContentType.
	PFX, PEM []byte

	// CER is a certificate in DER without its key, imported as if the key were in an HSM. Secret is then the value of the
	// secret behind it, with the content type ContentType.
	CER    []byte
	Secret string
}

// Certificate is one version of a certificate as SetCertificate made it.
type Certificate struct {
	Version string
	Key     crypto.Signer // nil if only CER was given
	Leaf    *x509.Certificate
	CAs     []*x509.Certificate // issued: from the leaf's issuer to the root; imported: in the order of the file
	Value   string              // of the secret behind the certificate: base64 of the PFX, or PEM
}

// SetCertificate adds a version of a certificate, and the secret and the key behind it with the same name and version.
func (v *Vault) SetCertificate(name string, opts CertificateOptions) (*Certificate, error) {
	cert, err := v.makeCertificate(name, &opts)
	if err != nil {
		return nil, fmt.Errorf("devcloud: certificate %s: %w", name, err)
	}
	key, err := publicJWK(cert.Leaf.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("devcloud: certificate %s: %w", name, err)
	}
	cert.Version = strings.ToLower(cmp.Or(opts.Version, newVersion()))

	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	base := version{
		id: cert.Version, created: opts.Created, disabled: opts.Disabled, tags: maps.Clone(opts.Tags),
		notBefore: &cert.Leaf.NotBefore, expires: &cert.Leaf.NotAfter,
	}
	if base.created.IsZero() {
		base.created = v.changed()
	}
	base.updated = base.created

	if opts.Pending {
		base.certificate, base.options, base.contentType, base.exportable, base.disabled = cert, opts, opts.ContentType, !opts.NotExportable, true
		v.add(Certificates, name, &base)
		return cert, nil
	}
	secret, keyVersion, certificate := base, base, base
	secret.managed, secret.value, secret.contentType = true, cert.Value, opts.ContentType
	secret.kid = v.id(Keys, name, base.id)
	keyVersion.managed, keyVersion.jwk = true, key
	certificate.certificate, certificate.contentType = cert, opts.ContentType
	certificate.options = opts
	certificate.exportable = !opts.NotExportable && cert.Key != nil
	certificate.imported = opts.PFX != nil || opts.PEM != nil || opts.CER != nil
	v.add(Certificates, name, &certificate)
	v.add(Secrets, name, &secret)
	v.add(Keys, name, &keyVersion)
	return cert, nil
}

// makeCertificate issues or imports a certificate. It also sets the content type.
func (v *Vault) makeCertificate(name string, opts *CertificateOptions) (*Certificate, error) {
	switch {
	case opts.PFX != nil:
		opts.ContentType = PKCS12
		return importPFX(opts.PFX)
	case opts.PEM != nil:
		opts.ContentType = PEMFile
		return importPEM(opts.PEM)
	case opts.CER != nil:
		leaf, err := x509.ParseCertificate(opts.CER)
		return &Certificate{Leaf: leaf, Value: opts.Secret}, err
	}
	opts.ContentType = cmp.Or(opts.ContentType, PKCS12)
	cert, err := v.cloud.issue(cmp.Or(opts.CommonName, strings.ToLower(name)+".example.com"), opts)
	if err != nil {
		return nil, err
	}
	cert.Value, err = encodeCertificate(cert, opts)
	return cert, err
}

func (v *Vault) certificateBundle(o *object, ver *version) any {
	bundle := azcertificates.Certificate{
		ID:         new(azcertificates.ID(v.id(Certificates, o.name, ver.id))),
		Attributes: certificateAttributes(ver),
		Tags:       pointers(ver.tags),
		Policy:     v.policy(o, ver),
	}
	if !ver.options.Pending {
		thumbprint := thumbprint(ver.certificate.Leaf.Raw)
		bundle.KID = new(azcertificates.ID(v.id(Keys, o.name, ver.id)))
		bundle.SID = new(azcertificates.ID(v.id(Secrets, o.name, ver.id)))
		bundle.CER, bundle.X509Thumbprint = ver.certificate.Leaf.Raw, thumbprint[:]
	}
	if ver.imported {
		return bundle
	}
	// The SDK does not know this member.
	return with(bundle, "pending", map[string]string{"id": v.id(Certificates, o.name, "") + "/pending"})
}

// with adds a member to a JSON object.
func with(body any, name string, value any) any {
	members := map[string]any{}
	text, err := json.Marshal(body)
	if err != nil || json.Unmarshal(text, &members) != nil {
		return body
	}
	members[name] = value
	return members
}

func (v *Vault) policy(o *object, ver *version) *azcertificates.CertificatePolicy {
	key, issuer := ver.certificate.Leaf.PublicKey, "devcloud"
	switch leaf := ver.certificate.Leaf; {
	case ver.imported:
		issuer = "Unknown"
	case leaf.Subject.String() == leaf.Issuer.String():
		issuer = "Self"
	}
	properties := &azcertificates.KeyProperties{Exportable: &ver.exportable, ReuseKey: new(false)}
	describeKey(properties, key)
	leaf := ver.certificate.Leaf
	names := make([]*string, 0, len(leaf.DNSNames))
	for _, name := range leaf.DNSNames {
		names = append(names, &name)
	}
	return &azcertificates.CertificatePolicy{
		ID:               new(azcertificates.ID(v.id(Certificates, o.name, "") + "/policy")),
		Attributes:       &azcertificates.CertificateAttributes{Enabled: new(true), Created: &ver.created, Updated: &ver.updated},
		IssuerParameters: &azcertificates.IssuerParameters{Name: &issuer},
		KeyProperties:    properties,
		SecretProperties: &azcertificates.SecretProperties{ContentType: &ver.contentType},
		X509CertificateProperties: &azcertificates.X509CertificateProperties{
			Subject:                 new(leaf.Subject.String()),
			SubjectAlternativeNames: &azcertificates.SubjectAlternativeNames{DNSNames: names},
		},
	}
}

// certificateItem has no recovery level, and a subject that is always empty.
func (v *Vault) certificateItem(id string, ver *version) any {
	item := azcertificates.CertificateProperties{
		ID:         new(azcertificates.ID(id)),
		Attributes: certificateAttributes(ver),
		Tags:       pointers(ver.tags),
	}
	item.Attributes.RecoveryLevel, item.Attributes.RecoverableDays = nil, nil
	if !ver.options.Pending {
		thumbprint := thumbprint(ver.certificate.Leaf.Raw)
		item.X509Thumbprint = thumbprint[:]
	}
	return with(item, "subject", "")
}

// thumbprint is the name of a certificate in Azure and in x5t (RFC 7515, section 4.1.7). It proves nothing, so that it is
// allowed in FIPS mode too.
func thumbprint(der []byte) (sum [sha1.Size]byte) {
	fips140.WithoutEnforcement(func() { sum = sha1.Sum(der) }) //nolint:gosec // see the import
	return sum
}

func certificateAttributes(ver *version) *azcertificates.CertificateAttributes {
	return &azcertificates.CertificateAttributes{
		Enabled: new(!ver.disabled), Created: &ver.created, Updated: &ver.updated,
		NotBefore: ver.notBefore, Expires: ver.expires,
		RecoveryLevel: new(recoveryLevel), RecoverableDays: new(recoverableDays),
	}
}
