package volume

import (
	"io/fs"
	"time"
)

// Request is everything that one volume asks for, after validation.
type Request struct {
	// Volume names the volume that asks, as the kubelet does, and Refresh says that the pod already has a complete set
	// of it, which is to be brought up to date. Parse sets neither: only its caller knows.
	Volume  string
	Refresh bool

	Pod      Pod
	Identity Identity

	// Objects in the order in which their files are laid down: those of the attribute secrets, then certificates,
	// then objects. An entry that was written twice stands here once.
	Objects []Object

	// Folders exist in the volume even when nothing is written into them: the predecessor's four if one of the
	// attributes secrets and certificates is present, else none.
	Folders []string

	// RotationInterval is the age from which on a republish fetches again. 0 means never.
	RotationInterval time.Duration

	// Timeout bounds one publish. Never 0.
	Timeout time.Duration

	// Limits hold while the content is gathered, and not only once it is there. Parse does not set them.
	Limits Limits

	// Memory is asked for the memory that the fetch takes. nil means that nobody counts it. Parse does not set it.
	Memory Memory `json:"-" yaml:"-"` // not data

	// Permit is what the policy has still to say once it is known who answers for the identity; nil when that does not
	// matter. Nothing that a vault has given to that identity may be handed out without it. Parse does not set it.
	Permit Permit `json:"-" yaml:"-"` // not data
}

// Permit says whether whoever answers may be used: nil, or an error that is [ErrDenied].
type Permit func(Principal) error

// Principal is whom a token of the node speaks for, as the token says it, in lower case. What it does not say is empty.
type Principal struct {
	ClientID   string
	ObjectID   string
	ResourceID string // of a user-assigned identity its own, of a system-assigned one that of the machine
}

// Pod says who asks. All four come from the kubelet (podInfoOnMount), never from what a user could write.
type Pod struct {
	Name, Namespace, UID, ServiceAccount string
}

// IdentityKind says with which right a pod reads the vault; the values are those of the attribute identity.
type IdentityKind string

// The four kinds of identity.
const (
	Workload         IdentityKind = "workload"         // the pod's service account, federated with Entra ID
	ServicePrincipal IdentityKind = "servicePrincipal" // a secret or certificate from the nodePublishSecretRef
	Managed          IdentityKind = "managed"          // a managed identity of the node
	Cluster          IdentityKind = "cluster"          // what the node's own azure.json says
)

// Identity is the login of a request. Which fields are set depends on the kind; those that are not needed are empty.
type Identity struct {
	Kind IdentityKind

	ClientID   string // workload, servicePrincipal, managed (user-assigned)
	ObjectID   string // managed: the identity by object id
	ResourceID string // managed: the identity by Azure resource id
	TenantID   string // GUID or domain; empty means: ask the vault's own 401 challenge (cluster: see DetectTenant)

	// DetectTenant is set when the pod says "auto". It matters to identity cluster, for which an empty TenantID
	// otherwise means the tenant of the cluster's file.
	DetectTenant bool

	ClientSecret              Secret // servicePrincipal
	ClientCertificate         Secret // servicePrincipal: PEM or PFX bytes
	ClientCertificatePassword Secret // servicePrincipal: of an encrypted ClientCertificate, usually empty

	// Assertion is the pod's service account token for the audience of Entra ID (workload). Its subject has been
	// compared with Pod; its signature is for Entra ID to judge.
	Assertion Secret

	// Issuer, ServiceAccountUID and BoundPodUID are what Assertion says of where it comes from: the cluster, which of the
	// service accounts that have had this name, and the pod. Each is empty where it says nothing.
	Issuer, ServiceAccountUID, BoundPodUID string
}

// Kind says what an [Object] is in the vault.
type Kind string

// The kinds of object.
const (
	// KindSecret is a secret's value, and the certificate behind it where Split says so.
	KindSecret Kind = "secret"
	// KindCertificate is a certificate with its private key, read through its backing secret.
	KindCertificate Kind = "certificate"
	// KindPublicCertificate is the leaf alone, from the certificates API; it needs no right to read secrets.
	KindPublicCertificate Kind = "public certificate"
	// KindKey is the public half of a key.
	KindKey Kind = "key"
	// KindSelection is every enabled secret of a vault that Selection matches.
	KindSelection Kind = "secrets"
)

// Object is one thing to read from a vault, and the files it becomes.
type Object struct {
	Kind   Kind
	Source string // attribute and position, for errors: "secrets[2]", "objects[0]"

	Vault   string // canonical, lower case, no trailing slash: "https://name.vault.azure.net"
	Name    string // [0-9a-zA-Z-]{1,127}; empty for KindSelection
	Version string // 32 lower-case hex digits; empty means the latest

	// Optional objects that are absent or disabled write nothing and are no error.
	Optional bool

	// Encoding says how a secret's value becomes bytes. HonourEncodingTag additionally decodes a secret that
	// carries the tag file-encoding=base64, as the predecessor meant to (KindSecret only).
	Encoding          Encoding
	HonourEncodingTag bool

	// Outputs are always written. Split is written as well when the secret turns out to back a certificate
	// (KindSecret only); NeedsCertificate makes it a failed precondition that it does not.
	Outputs          []Output
	Split            []Output
	NeedsCertificate bool

	ChainOrder ChainOrder
	KeyFormat  KeyFormat

	Selection *Selection // KindSelection only
}

// Encoding is how the text of a secret's value stands for bytes.
type Encoding string

// The encodings of a value.
const (
	UTF8   Encoding = "utf-8"
	Base64 Encoding = "base64"
	Hex    Encoding = "hex"
)

// ChainOrder is the order of the certificates after the leaf, which always comes first.
type ChainOrder string

// The orders of a chain.
const (
	ChainOrderChain   ChainOrder = "chain"   // leaf, its issuer, … root
	ChainOrderPFX     ChainOrder = "pfx"     // leaf, then file order
	ChainOrderReverse ChainOrder = "reverse" // leaf, then reversed file order
)

// KeyFormat is the PEM form of a private key.
type KeyFormat string

// The forms of a private key.
const (
	PKCS8 KeyFormat = "pkcs8" // any key, RFC 5208
	PKCS1 KeyFormat = "pkcs1" // RSA only, RFC 8017
	SEC1  KeyFormat = "sec1"  // EC only, RFC 5915
)

// Part names which bytes of an object go into a file.
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
)

// Output is one file of an object.
type Output struct {
	Part Part
	Path string      // slash-separated, relative, validated
	Mode fs.FileMode // permission bits; 0 means the default of the volume (0644, with fsGroup 0640)
}

// Selection chooses secrets of a vault by what its list says of them. The zero value matches every enabled secret.
type Selection struct {
	Prefix string            // of the name; compared without regard to case, as vault names are
	Tags   map[string]string // all must be present with these values

	// Each gives the object that one selected secret stands for. Its Source is that of the selection. It is optional:
	// a secret that goes or is disabled between the list and the get writes nothing. Each does not look at the name,
	// which comes from a vault: ValidName does, and Tree.Add looks at the paths.
	Each func(name string) Object
}
