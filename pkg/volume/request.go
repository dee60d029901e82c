package volume

import (
	"context"
	"io/fs"
	"slices"
	"time"
)

// Request is what one volume asks for, validated.
type Request struct {
	// Volume is the kubelet's id of the volume. Refresh is true if the pod already has a complete set of files, which
	// is to be updated. Parse sets neither.
	Volume  string
	Refresh bool

	Pod      Pod
	Identity Identity

	// Objects are in the order in which their files are written: those of the attribute secrets, then certificates,
	// then objects. Entries that are repeated are dropped.
	Objects []Object

	// Manifests list the objects of the set. With AllVersions, [Content.Versions] has every object, also those without an
	// ID and those that are absent; Parse sets it if there are manifests.
	Manifests   []Manifest
	AllVersions bool

	// Folders exist in the volume even when they are empty: the four of the predecessor if the attribute secrets or
	// certificates is present, else none.
	Folders []string

	// RotationInterval is the age from which a republish fetches again. 0 means never.
	RotationInterval time.Duration

	// ChangeDetection is how a refresh finds out what has changed. Empty means DetectByReading.
	ChangeDetection ChangeDetection

	// Poll is true if the caller asks at every poll and not only when its set is due. A refresh then uses values younger
	// than RotationInterval, also those that the volume has already. Parse does not set it.
	Poll bool

	// FromClass is true if a SecretProviderClass names the objects. It cannot mark one optional, and errors do not advise it.
	// Parse does not set it.
	FromClass bool

	// NotBefore is the policy's refreshAfter: an answer of a vault that was requested before must not be used. Zero means
	// none. Parse does not set it.
	NotBefore time.Time

	// Timeout bounds one publish. It is never 0.
	Timeout time.Duration

	// Limits are checked while the content is fetched. Parse does not set them.
	Limits Limits

	// Memory reserves the memory of the fetch; nil if it is not limited. Parse does not set it.
	Memory Memory `json:"-" yaml:"-"` // not data

	// Permit is the part of the policy that depends on the principal of the token; nil if there is none. A value that
	// the vault returned for this identity must not be used before Permit allows it. Parse does not set it.
	Permit Permit `json:"-" yaml:"-"` // not data
}

// Permit returns nil if the principal may be used, else an error that is [ErrDenied].
type Permit func(Principal) error

// Principal is the identity behind a token of the node, from the claims of the token, in lower case. Absent claims are
// empty.
type Principal struct {
	ClientID   string
	ObjectID   string
	ResourceID string // of the user-assigned identity, or of the machine for a system-assigned one
}

// Pod is the pod of the volume. All fields come from the kubelet (podInfoOnMount), never from a user.
type Pod struct {
	Name, Namespace, UID, ServiceAccount string
}

// IdentityKind is how a pod authenticates to the vault. The values are those of the attribute identity.
type IdentityKind string

// The four kinds of identity.
const (
	Workload         IdentityKind = "workload"         // the pod's service account, federated with Entra ID
	ServicePrincipal IdentityKind = "servicePrincipal" // a secret or certificate from the nodePublishSecretRef
	Managed          IdentityKind = "managed"          // a managed identity of the node
	Cluster          IdentityKind = "cluster"          // the identity in the node's azure.json
)

// Identity is the login of a request. Fields that the kind does not need are empty.
type Identity struct {
	Kind IdentityKind

	ClientID   string // workload, servicePrincipal, managed (user-assigned)
	ObjectID   string // managed: the identity by object id
	ResourceID string // managed: the identity by Azure resource id
	TenantID   string // GUID or domain; empty means the tenant of the vault's 401 challenge (cluster: see DetectTenant)

	// DetectTenant is true if the pod says "auto". For the identity cluster an empty TenantID otherwise means the
	// tenant of azure.json.
	DetectTenant bool

	ClientSecret              Secret // servicePrincipal
	ClientCertificate         Secret // servicePrincipal: PEM or PFX bytes
	ClientCertificatePassword Secret // servicePrincipal: of an encrypted ClientCertificate, usually empty

	// Assertion is the pod's service account token for the audience of Entra ID (workload). Parse compares its subject
	// with Pod; Entra ID verifies its signature.
	Assertion Secret

	// Issuer, ServiceAccountUID and BoundPodUID are claims of Assertion: the cluster, the service account (a name can
	// be reused), and the pod. Absent claims are empty.
	Issuer, ServiceAccountUID, BoundPodUID string
}

// Kind is the type of an [Object] in the vault.
type Kind string

// The kinds of object.
const (
	KindSecret            Kind = "secret"             // a value, and the certificate behind it if there are Split outputs
	KindCertificate       Kind = "certificate"        // with its private key, read through its backing secret
	KindPublicCertificate Kind = "public certificate" // the leaf from the certificates API; needs no right to read secrets
	KindKey               Kind = "key"                // the public half of a key
	KindSelection         Kind = "secrets"            // all enabled secrets of a vault that match Selection
)

// Object is one object of a vault and the files that it becomes.
type Object struct {
	Kind   Kind
	Source string // attribute and position, for errors: "secrets[2]", "objects[0]"

	Vault   string // canonical, lower case, no trailing slash: "https://name.vault.azure.net"
	Name    string // [0-9a-zA-Z-]{1,127}; empty for KindSelection
	Version string // 32 lower-case hex digits; empty means the latest

	// Optional objects that are absent or disabled write nothing and are no error.
	Optional bool

	// Encoding is how a secret's value becomes bytes. With HonourEncodingTag, a secret with the tag
	// file-encoding=base64 is decoded as well, as the predecessor intended (KindSecret only).
	Encoding          Encoding
	HonourEncodingTag bool

	// Outputs are always written. Split is written as well if the secret backs a certificate (KindSecret only). With
	// NeedsCertificate a secret that backs no certificate is a failed precondition. With KeyIfExportable the files with
	// the private key are left out, and not refused, if the key is not exportable.
	Outputs          []Output
	Split            []Output
	NeedsCertificate bool
	KeyIfExportable  bool

	ChainOrder ChainOrder
	KeyFormat  KeyFormat

	// RequireChain makes a gap in the chain of a certificate an error (KindCertificate only). Without it, a gap is in
	// [Content.Gaps].
	RequireChain bool

	// Password encrypts PartPFX (KindCertificate only). It is a secret without outputs, which is read with the others; nil
	// means the PKCS#12 file of the vault, or one with an empty password.
	Password   *Object
	PFXProfile PFXProfile // with Password

	Selection *Selection // KindSelection only

	// In is the file that has the object as an entry with the name Entry (KindSecret, and KindSelection without Entry).
	// The one output is then the value of the entry. nil means that the object has files of its own.
	In    *ValueFile
	Entry string

	// History replaces the object by its versions; nil means the one version. Not with KindSelection.
	History *History

	// ID names the object in [Content.Versions]; empty if its version is not asked for.
	ID string
}

// Hold counts bytes against Memory, if that is limited.
func (r Request) Hold(ctx context.Context, bytes int64) error {
	if r.Memory == nil {
		return nil
	}
	return r.Memory.Hold(ctx, bytes)
}

// Vaults returns each vault of the request once, in the order of the objects, with the vaults of their passwords.
func (r Request) Vaults() (vaults []string) {
	add := func(o *Object) {
		if !slices.Contains(vaults, o.Vault) {
			vaults = append(vaults, o.Vault)
		}
	}
	for i := range r.Objects {
		add(&r.Objects[i])
		if password := r.Objects[i].Password; password != nil {
			add(password)
		}
	}
	return vaults
}

// Encoding is how the text of a secret's value represents bytes.
type Encoding string

// The encodings of a value.
const (
	UTF8   Encoding = "utf-8"
	Base64 Encoding = "base64"
	Hex    Encoding = "hex"
)

// ChainOrder is the order of the certificates. The leaf comes first if not said otherwise.
type ChainOrder string

// The orders of a chain.
const (
	ChainOrderChain   ChainOrder = "chain"   // leaf, its issuer, … root
	ChainOrderPFX     ChainOrder = "pfx"     // leaf, then file order
	ChainOrderReverse ChainOrder = "reverse" // leaf, then reversed file order

	// The orders of the Azure provider of the Secrets Store CSI Driver, which no attribute can ask for. They may begin with
	// a CA.
	ChainOrderFile  ChainOrder = "file"  // file order
	ChainOrderKeyID ChainOrder = "keyID" // linked by key identifiers, if these link all certificates; else file order
)

// KeyFormat is the PEM form of a private key.
type KeyFormat string

// The forms of a private key.
const (
	PKCS8 KeyFormat = "pkcs8" // any key, RFC 5208
	PKCS1 KeyFormat = "pkcs1" // RSA only, RFC 8017
	SEC1  KeyFormat = "sec1"  // EC only, RFC 5915
)

// PFXProfile is the set of algorithms of a PKCS#12 file that is written with a password.
type PFXProfile string

// The profiles.
const (
	PFXModern PFXProfile = "modern" // PBES2 with AES-256, and SHA-256: OpenSSL 1.1.1, Java 8u301, 11.0.12, 12 and newer
	PFXLegacy PFXProfile = "legacy" // 3DES and SHA-1: also older ones
)

// Part is which bytes of an object go into a file.
type Part string

// The parts of an object.
const (
	PartValue     Part = "value"     // a secret's value, decoded by Encoding
	PartKey       Part = "key"       // the private key, PEM, in the object's KeyFormat
	PartChain     Part = "chain"     // leaf and CAs, PEM, 64 columns
	PartCert      Part = "cert"      // the leaf alone, PEM, 64 columns
	PartCA        Part = "ca"        // the CAs alone, PEM, 64 columns; may be empty
	PartPEM       Part = "pem"       // PartKey, then PartChain
	PartPFX       Part = "pfx"       // binary PKCS#12
	PartLeaf76    Part = "leaf76"    // KindPublicCertificate: PEM with the predecessor's 76 columns
	PartPublicKey Part = "publicKey" // KindKey: PEM "PUBLIC KEY" (PKIX)
	PartField     Part = "field"     // the part of a secret's JSON value at the output's Pointer; a string decoded by Encoding

	// PartPEMOrValue is PartPEM for a secret that backs a certificate of PKCS#12, PartChain if its key is not exportable,
	// and PartValue for any other secret (KindSecret only).
	PartPEMOrValue Part = "pemOrValue"

	// The blocks of certificates, and all others, of the PEM in the object's Outputs, before Encoding decodes it. Empty if
	// there are none (Split only).
	PartCertBlocks  Part = "certBlocks"
	PartOtherBlocks Part = "otherBlocks"
)

// Output is one file of an object.
type Output struct {
	Part Part
	Path string      // slash-separated, relative, validated
	Mode fs.FileMode // permission bits; 0 means the default of the volume (0644, with fsGroup 0640)

	Pointer string // PartField only: a valid JSON Pointer (RFC 6901); empty means the whole value
}

// HoldsKey reports whether the file has the private key of a certificate.
func (o Output) HoldsKey() bool { return o.Part == PartKey || o.Part == PartPEM || o.Part == PartPFX }

// HoldsChain reports whether the file has the CAs of a certificate.
func (o Output) HoldsChain() bool {
	return o.Part == PartChain || o.Part == PartCA || o.Part == PartPEM || o.Part == PartPEMOrValue || o.Part == PartPFX
}
