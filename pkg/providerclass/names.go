package providerclass

import (
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The parameters that the provider reads.
const (
	KeyvaultName           = "keyvaultName"
	CloudName              = "cloudName"
	CloudEnvFileName       = "cloudEnvFileName" // of an Azure Stack; here, flags of the driver describe the cloud
	TenantID               = "tenantID"
	OldTenantID            = "tenantId" // read if TenantID is empty
	ClientID               = "clientID"
	UsePodIdentity         = "usePodIdentity"
	UseVMManagedIdentity   = "useVMManagedIdentity"
	UserAssignedIdentityID = "userAssignedIdentityID"
	UseAzureTokenProxy     = "useAzureTokenProxy"
	Objects                = "objects"
)

// usePodServiceAccountAnnotation is a parameter of later versions, which read the client id from the Kubernetes API.
const usePodServiceAccountAnnotation = "usePodServiceAccountAnnotation"

// The fields of an object.
const (
	objectName     = "objectName"
	objectType     = "objectType"
	objectVersion  = "objectVersion"
	objectAlias    = "objectAlias"
	objectFormat   = "objectFormat"
	objectEncoding = "objectEncoding"
	objectHistory  = "objectVersionHistory"
	filePermission = "filePermission"
)

// objectNotAfter is a field of later versions, which decides the version by its expiry.
const objectNotAfter = "objectNotAfter"

// Parameters returns the parameters that the provider reads. It ignores others.
func Parameters() []string {
	return []string{
		KeyvaultName, CloudName, CloudEnvFileName, TenantID, OldTenantID, ClientID, UsePodIdentity, UseVMManagedIdentity,
		UserAssignedIdentityID, UseAzureTokenProxy, Objects,
	}
}

// ObjectFields returns the fields of an object that the provider reads. It ignores others.
func ObjectFields() []string {
	return []string{
		objectName, objectType, objectVersion, objectAlias, objectFormat, objectEncoding, objectHistory, filePermission,
	}
}

// Misspelt returns the first of the written names that is not known and was probably meant as the wanted one; empty if there is none.
func Misspelt(wanted string, written, known []string) string {
	for _, name := range written {
		if len(name) <= 64 && !slices.Contains(known, name) && volume.Nearest(name, known) == wanted {
			return name
		}
	}
	return ""
}

// StackCloud is the name of a cloud that a file on the node describes.
const StackCloud = "AzureStackCloud"

// Clouds returns the clouds of Azure that this driver knows too.
func Clouds() []string {
	return []string{"AzurePublicCloud", "AzureUSGovernmentCloud", "AzureChinaCloud"}
}

// Cloud returns the cloud of a cloudName: one of [Clouds], or [StackCloud]. The provider accepts any case, and two shorter names.
func Cloud(name string) (cloud string, known bool) {
	switch strings.ToUpper(name) {
	case "AZURECLOUD":
		return Clouds()[0], true
	case "AZUREUSGOVERNMENT":
		return Clouds()[1], true
	case "AZURECHINA": // not a name of the provider, but nothing else can be meant
		return Clouds()[2], true
	}
	for _, cloud := range append(Clouds(), StackCloud) {
		if strings.EqualFold(name, cloud) {
			return cloud, true
		}
	}
	return "", false
}

// ValidVaultName is the provider's rule for a keyvaultName.
func ValidVaultName(name string) bool {
	return len(name) >= 3 && len(name) <= 24 && volume.ValidName(name)
}
