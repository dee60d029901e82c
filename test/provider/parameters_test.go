package provider_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// parameterClasses are the parameters beside objects and those of the identity.
func parameterClasses(_ *testing.T, s *storeDriver, _ *material) []class {
	text := value()
	version := s.set("parameter", text)
	want := files(of("secret", "parameter", version, "parameter", text))
	accepted := func(name string, pairs ...string) class {
		return class{name: name, objects: one("secret", "parameter"), parameters: pairsOf(pairs), want: want}
	}
	refused := func(name, text string, pairs ...string) class {
		return class{name: name, objects: one("secret", "parameter"), parameters: pairsOf(pairs), instead: invalid(text)}
	}
	const noGUID = "22222222-0000-4000-8000-000000000001"
	classes := []class{
		accepted("tenantID alone"),
		accepted("tenantId alone", "tenantID", "", "tenantId", node.Tenant),
		accepted("tenantID wins", "tenantId", noGUID),
		accepted("tenantID of blanks", "tenantID", "  ", "tenantId", node.Tenant),
		accepted("blanks around everything", "tenantID", " "+node.Tenant+"\n", "clientID", "\t"+node.WorkloadID+" ", "keyvaultName", " shop\n", "cloudName", " AzureCloud "),
		accepted("keyvaultName in capitals", "keyvaultName", "SHOP"),
		accepted("flags that are false", "usePodIdentity", "false", "useVMManagedIdentity", "0", "useAzureTokenProxy", "F"),
		accepted("flags of blanks", "usePodIdentity", " ", "useVMManagedIdentity", " False ", "useAzureTokenProxy", "FALSE"),
		accepted("parameters that nobody reads", "secretProviderClass", "shop", "objectsAlias", "x", "cloudEnvFileName", "/etc/kubernetes/stack.json"),
		accepted("userAssignedIdentityID without useVMManagedIdentity", "userAssignedIdentityID", noGUID),
		refused("no tenant", "tenantID: is missing, the Entra ID tenant of the vault", "tenantID", ""),
		refused("no keyvaultName", "keyvaultName: is missing", "keyvaultName", " "),
		refused("keyvaultName that is a URL", `keyvaultName: "https://shop.vault.azure.net" is not the name of a vault, 3 to 24 letters, digits and hyphens`, "keyvaultName", "https://shop.vault.azure.net"),
		refused("keyvaultName of 25 letters", `keyvaultName: "abcdefghijklmnopqrstuvwxy" is not the name of a vault, 3 to 24 letters, digits and hyphens`, "keyvaultName", "abcdefghijklmnopqrstuvwxy"),
		refused("useVMManagedIdentity maybe", `useVMManagedIdentity: "maybe" is neither true nor false`, "useVMManagedIdentity", "maybe"),
		refused("useAzureTokenProxy", "useAzureTokenProxy: is not supported, this driver has no AKS identity bindings; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account", "useAzureTokenProxy", "true"),
		refused("all problems at once", "keyvaultName: is missing; tenantID: is missing, the Entra ID tenant of the vault; objects: is not a mapping, or has a key twice; it must be a mapping with the key array, and in it one text for each object", "tenantID", "", "keyvaultName", "", "objects", "- a"),
	}
	for _, cloud := range []string{"AzurePublicCloud", "azurepubliccloud", "AZURECLOUD", "AzureCloud"} {
		classes = append(classes, accepted("cloudName "+cloud, "cloudName", cloud))
	}
	return append(classes,
		refused("cloudName of another cloud", `cloudName: "AzureUSGovernment" is another cloud than that of this driver, AzurePublicCloud; remove it, or install the driver with --cloud AzureUSGovernmentCloud`, "cloudName", "AzureUSGovernment"),
		refused("cloudName AzureChinaCloud", `cloudName: "azurechinacloud" is another cloud than that of this driver, AzurePublicCloud; remove it, or install the driver with --cloud AzureChinaCloud`, "cloudName", "azurechinacloud"),
		refused("cloudName AzureStackCloud", `cloudName: "AzureStackCloud" is another cloud than that of this driver, AzurePublicCloud; remove it, or install the driver with --cloud custom`, "cloudName", "AzureStackCloud"),
		refused("cloudName AzureGermanCloud", `cloudName: "AzureGermanCloud" is not a cloud of this driver, AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureStackCloud`, "cloudName", "AzureGermanCloud"),
		class{
			name: "a vault of another tenant", objects: one("secret", "parameter"), parameters: map[string]string{"tenantID": noGUID},
			instead: refusal(codes.Unauthenticated, `objects[0]: secret "parameter"`+asWorkload+": Entra ID answered HTTP 400 invalid_request, AADSTS90002: there is no tenant 22222222-0000-4000-8000-000000000001 in AzurePublicCloud; check tenantID and --cloud (asked of tenant 22222222-0000-4000-8000-000000000001, while the vault belongs to tenant 7f0c6a3e-52c1-4a8b-8d0e-9b7c1a2f3e4d)"),
		},
	)
}

// pairsOf are parameters from names and values.
func pairsOf(pairs []string) map[string]string {
	parameters := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		parameters[pairs[i]] = pairs[i+1]
	}
	return parameters
}
