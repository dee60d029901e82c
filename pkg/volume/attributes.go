package volume

import "time"

// The volume attributes: what a pod's author writes under volumeAttributes. All values are strings. A key that is not
// listed here is refused, and so is a value that is present but empty, except for the three lists.
const (
	// AttributeVault names the vault of every object that does not name its own: https://NAME.SUFFIX or NAME.
	AttributeVault = "vault"

	// AttributeSecrets lists secrets in the predecessor's grammar, name[:version[:certfile[:keyfile]]] separated by
	// semicolons, or is "*", standing alone, for every enabled secret of the vault. Present but empty fetches nothing.
	AttributeSecrets = "secrets"

	// AttributeCertificates lists public certificates in the same grammar; the key file is not used.
	AttributeCertificates = "certificates"

	// AttributeObjects is a YAML list of structured objects.
	AttributeObjects = "objects"

	// AttributeDownloadCA says whether certificates of AttributeSecrets come with their CAs: true (the default) or
	// false, in any case. With AttributeDownloadCAPrefix it says so for one secret, whose name may be in any case.
	AttributeDownloadCA       = "downloadCACertificates"
	AttributeDownloadCAPrefix = AttributeDownloadCA + "."

	// AttributeSavePFX also writes the PFX of each certificate of AttributeSecrets: true or false (the default).
	AttributeSavePFX = "savePFX"

	// AttributeChainOrder is a [ChainOrder]; ChainOrderChain by default. It holds for all certificates of the volume.
	AttributeChainOrder = "chainOrder"

	// AttributeIdentity is an [IdentityKind]. Without it: servicePrincipal if the Secret holds one, else workload if
	// AttributeClientID is set, else [Defaults.Identity].
	AttributeIdentity = "identity"

	// AttributeClientID is the client id (GUID) of the workload identity, the service principal or the user-assigned
	// managed identity. AttributeObjectID (GUID) and AttributeResourceID (/subscriptions/…) name a user-assigned
	// managed identity in other ways; at most one of the three.
	AttributeClientID   = "clientID"
	AttributeObjectID   = "objectID"
	AttributeResourceID = "resourceID"

	// AttributeTenantID is the Entra ID tenant: a GUID, a domain name, or TenantAuto.
	AttributeTenantID = "tenantID"

	// AttributeRotationInterval is a Go duration of at least MinRotationInterval, or 0 for never.
	AttributeRotationInterval = "rotationInterval"

	// AttributeTimeout is a Go duration above 0 and up to MaxTimeout for one publish.
	AttributeTimeout = "timeout"
)

// TenantAuto as AttributeTenantID means: the tenant that the vault's own 401 challenge names.
const TenantAuto = "auto"

// What the kubelet adds to the attributes of an inline volume (CSIDriver.spec.podInfoOnMount and tokenRequests). Its
// values replace whatever a user wrote under the same key. Other keys under KubeletPrefix are ignored.
const (
	KubeletPrefix = "csi.storage.k8s.io/"

	KubeletPodName        = KubeletPrefix + "pod.name"
	KubeletPodNamespace   = KubeletPrefix + "pod.namespace"
	KubeletPodUID         = KubeletPrefix + "pod.uid"
	KubeletServiceAccount = KubeletPrefix + "serviceAccount.name"
	KubeletEphemeral      = KubeletPrefix + "ephemeral" // always "true" for an inline volume; not needed

	// KubeletTokens holds {"audience": {"token": …, "expirationTimestamp": …}}: in the secrets of the call with
	// CSIDriver.spec.serviceAccountTokenInSecrets (KEP-5538), in its volume context otherwise.
	KubeletTokens = KubeletPrefix + "serviceAccount.tokens"
)

// The keys of the Secret that nodePublishSecretRef names, compared without regard to case; other keys are ignored. An
// empty value is as good as none. The ids lose outer white space, the client secret and the password lose line ends
// at their end: a Secret made with echo carries one.
const (
	SecretClientID     = "clientid" // GUID
	SecretClientSecret = "clientsecret"

	// SecretClientCertificate is PEM, or a PFX as base64 text: the kubelet cannot pass binary values on to a driver.
	SecretClientCertificate         = "clientcertificate"
	SecretClientCertificatePassword = "clientcertificatepassword"

	SecretTenantID = "tenantid" // GUID, domain name, or TenantAuto
)

// The bounds of the two durations.
const (
	// DefaultTimeout bounds a publish whose pod says nothing.
	DefaultTimeout = 60 * time.Second
	// MaxTimeout leaves the kubelet, which waits 2 minutes, the time to hear the answer.
	MaxTimeout = 110 * time.Second
	// MinRotationInterval is below the kubelet's own rhythm of 60 to 90 s; less would promise what nobody keeps.
	MinRotationInterval = 30 * time.Second
)

// The limits against hostile input. They lie well above what a working volume needs.
const (
	// MaxAttributeBytes bounds all attributes together, keys and values, those of the kubelet included: MaxEntries objects of 64
	// bytes. An API server lets a pod have six times as much, and a driver may be asked for hundreds of volumes at once.
	MaxAttributeBytes = 256 << 10
	// MaxEntries bounds each of the lists: a vault answers about 4,000 requests in 10 s.
	MaxEntries = 4096
)

// Defaults is what the operator decided for pods that say nothing. The zero value is Azure's public cloud without a
// default identity and without rotation.
type Defaults struct {
	// VaultSuffix is the DNS suffix of the cloud's vaults, without a leading dot. Empty means "vault.azure.net".
	VaultSuffix string

	// TokenAudience is the audience of the service account token that Entra ID takes for a workload identity. Empty
	// means "api://AzureADTokenExchange".
	TokenAudience string

	// Identity is used where a pod names none. Empty means that a pod must name one.
	Identity IdentityKind

	// RotationInterval is used where a pod names none. 0 means never, as in the attribute.
	RotationInterval time.Duration
}
