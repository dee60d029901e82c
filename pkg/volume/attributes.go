package volume

import "time"

// The volume attributes: what a pod's author writes under volumeAttributes. All values are strings. Unknown keys are
// refused, and so are empty values, except those of the three lists.
const (
	// AttributeVault is the vault of every object that names no vault: https://NAME.SUFFIX or NAME.
	AttributeVault = "vault"

	// AttributeSecrets lists secrets in the predecessor's grammar, name[:version[:certfile[:keyfile]]] separated by
	// semicolons, or is "*" alone, for every enabled secret of the vault. The empty value fetches nothing.
	AttributeSecrets = "secrets"

	// AttributeCertificates lists public certificates in the same grammar; the key file is not used.
	AttributeCertificates = "certificates"

	// AttributeObjects is a YAML list of structured objects.
	AttributeObjects = "objects"

	// AttributeDownloadCA is true (the default) or false, in any case: whether certificates of AttributeSecrets come
	// with their CAs. AttributeDownloadCAPrefix and a name, in any case, sets it for one secret.
	AttributeDownloadCA       = "downloadCACertificates"
	AttributeDownloadCAPrefix = AttributeDownloadCA + "."

	// AttributeSavePFX is true or false (the default): whether the PFX of each certificate of AttributeSecrets is
	// written as well.
	AttributeSavePFX = "savePFX"

	// AttributeChainOrder is a [ChainOrder] for all certificates of the volume; ChainOrderChain by default.
	AttributeChainOrder = "chainOrder"

	// AttributeIdentity is an [IdentityKind]. The default is servicePrincipal if the Secret holds one, else workload if
	// AttributeClientID is set, else [Defaults.Identity].
	AttributeIdentity = "identity"

	// AttributeClientID is the client id (GUID) of the workload identity, the service principal or the user-assigned
	// managed identity. AttributeObjectID (GUID) and AttributeResourceID (/subscriptions/…) are other names of a
	// user-assigned managed identity; at most one of the three may be set for it.
	AttributeClientID   = "clientID"
	AttributeObjectID   = "objectID"
	AttributeResourceID = "resourceID"

	// AttributeTenantID is the Entra ID tenant: a GUID, a domain name, or TenantAuto.
	AttributeTenantID = "tenantID"

	// AttributeRotationInterval is a Go duration of at least MinRotationInterval, or 0 for never.
	AttributeRotationInterval = "rotationInterval"

	// AttributeChangeDetection is a [ChangeDetection] for the refreshes of the volume. The default is
	// [Defaults.ChangeDetection].
	AttributeChangeDetection = "changeDetection"

	// AttributeTimeout is a Go duration above 0 and up to MaxTimeout for one publish.
	AttributeTimeout = "timeout"
)

// TenantAuto as AttributeTenantID means the tenant in the vault's own 401 challenge.
const TenantAuto = "auto"

// The attributes that the kubelet adds to an inline volume (CSIDriver.spec.podInfoOnMount and tokenRequests). They replace
// what a user wrote under the same key. Other keys under KubeletPrefix are ignored.
const (
	KubeletPrefix = "csi.storage.k8s.io/"

	KubeletPodName        = KubeletPrefix + "pod.name"
	KubeletPodNamespace   = KubeletPrefix + "pod.namespace"
	KubeletPodUID         = KubeletPrefix + "pod.uid"
	KubeletServiceAccount = KubeletPrefix + "serviceAccount.name"
	KubeletEphemeral      = KubeletPrefix + "ephemeral" // always "true" for an inline volume; not needed

	// KubeletTokens holds {"audience": {"token": …, "expirationTimestamp": …}}: in the secrets of the request with
	// CSIDriver.spec.serviceAccountTokenInSecrets (KEP-5538), in its volume context otherwise.
	KubeletTokens = KubeletPrefix + "serviceAccount.tokens"
)

// The keys of the Secret of nodePublishSecretRef, in any case. Other keys and empty values are ignored. Ids are trimmed
// of white space, the client secret and the password of line ends, which a Secret made with echo has.
const (
	SecretClientID     = "clientid" // GUID
	SecretClientSecret = "clientsecret"

	// SecretClientCertificate is PEM, or a PFX as base64 text: the kubelet cannot pass binary values to a driver.
	SecretClientCertificate         = "clientcertificate"
	SecretClientCertificatePassword = "clientcertificatepassword"

	SecretTenantID = "tenantid" // GUID, domain name, or TenantAuto
)

// The limits of the two durations.
const (
	DefaultTimeout = 60 * time.Second
	// MaxTimeout is less than the 2 minutes that the kubelet waits, so that it receives the answer.
	MaxTimeout = 110 * time.Second
	// MinRotationInterval is less than the 60 to 90 s between two calls of the kubelet. A shorter one has no effect.
	MinRotationInterval = 30 * time.Second
)

// The limits of hostile input. They are far above what a working volume needs.
const (
	// MaxAttributeBytes bounds all attributes together, keys and values, including those of the kubelet: MaxEntries
	// objects of 64 bytes. An API server accepts six times as much, and a driver can get hundreds of volumes at once.
	MaxAttributeBytes = 256 << 10
	// MaxEntries bounds each list. A vault answers about 4,000 requests in 10 s.
	MaxEntries = 4096
)

// Defaults are the operator's settings for pods that do not set their own. The zero value is Azure's public cloud
// without a default identity and without rotation.
type Defaults struct {
	// VaultSuffix is the DNS suffix of the cloud's vaults, without a leading dot. Empty means "vault.azure.net".
	VaultSuffix string

	// TokenAudience is the audience of the service account token that Entra ID accepts for a workload identity. Empty
	// means "api://AzureADTokenExchange".
	TokenAudience string

	// Identity is the default identity. Empty means that a pod must name one.
	Identity IdentityKind

	// CSIDriver is the name of the CSIDriver object, for errors about what the kubelet does not send. Empty means that
	// errors do not name it.
	CSIDriver string

	// RotationInterval is the default interval. 0 means never, as in the attribute.
	RotationInterval time.Duration

	// ChangeDetection is the default of the attribute. Empty means DetectByReading.
	ChangeDetection ChangeDetection
}
