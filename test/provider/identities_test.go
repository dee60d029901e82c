package provider_test

import (
	"encoding/json"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The managed identities of the node. The policy allows the first two.
const (
	systemID   = "88888888-0000-4000-8000-000000000001" // system-assigned
	assignedID = "88888888-0000-4000-8000-000000000002"
	deniedID   = "88888888-0000-4000-8000-000000000003"

	deniedResource = "/subscriptions/5ca1ab1e-0000-4000-8000-000000000001/resourcegroups/dev/providers/microsoft.managedidentity/userassignedidentities/" + deniedID
	tokens         = "csi.storage.k8s.io/serviceAccount.tokens"
)

// identityClasses are all ways to log in. The value is different for each login, so that the answer shows which one it was.
func identityClasses(t *testing.T, s *storeDriver, _ *material) []class {
	t.Helper()
	for _, id := range []devcloud.Identity{
		{ClientID: systemID, Managed: true, SystemAssigned: true}, {ClientID: assignedID, Managed: true}, {ClientID: deniedID, Managed: true},
	} {
		id.Tenant = node.Tenant
		must(t, s.Cloud.AddIdentity(id))
		s.Vault.Grant(id.ClientID)
	}
	version := s.Vault.SetSecret("login", "", devcloud.SecretOptions{OfCaller: true})
	as := func(id, proof string) answer {
		return files(of("secret", "login", version, "login", node.Tenant+" "+id+" "+proof))
	}
	workload, principal := as(node.WorkloadID, "system:serviceaccount:shop:web"), as(node.PrincipalID, "secret 0")
	noToken := kubelet.Volume{NoToken: true}
	secret := func(pairs ...string) map[string]string { return pairsOf(pairs) }
	login := secret("clientid", node.PrincipalID, "clientsecret", node.PrincipalSecret)
	by := func(name string, secret map[string]string, pod kubelet.Volume, want answer, pairs ...string) class {
		return class{name: "login by " + name, objects: one("secret", "login"), parameters: pairsOf(pairs), secret: secret, pod: pod, want: want}
	}
	refused := func(name string, secret map[string]string, code codes.Code, text string, pairs ...string) class {
		return class{
			name: "login by " + name, objects: one("secret", "login"), parameters: pairsOf(pairs), secret: secret, pod: noToken, instead: refusal(code, text),
		}
	}
	otherAudience, err := json.Marshal(map[string]any{"vault": map[string]string{"token": "x"}})
	must(t, err)
	classes := []class{
		by("tokens in the secrets", nil, kubelet.Volume{}, workload),
		by("tokens in the attributes", nil, kubelet.Volume{TokenInContext: true}, workload),
		by("clientID before a Secret", login, kubelet.Volume{}, workload),
		by("a Secret", login, noToken, principal, "clientID", ""),
		by("a Secret beside tokens", login, kubelet.Volume{}, principal, "clientID", ""),
		by("a Secret beside tokens in the attributes", login, kubelet.Volume{TokenInContext: true}, principal, "clientID", " "),
		by("a Secret with keys in capitals", secret("CLIENTID", node.PrincipalID, "ClientSecret", node.PrincipalSecret), noToken, principal, "clientID", ""),
		by("a Secret with other keys", secret("clientid", node.PrincipalID, "clientsecret", node.PrincipalSecret, "tenantid", "other", "clientcertificate", "x"), noToken, principal, "clientID", ""),
		refused("no tokens", nil, codes.InvalidArgument, `csi.storage.k8s.io/serviceAccount.tokens: the kubelet sent no token for audience "api://AzureADTokenExchange", the CSIDriver object secrets-store.csi.k8s.io must list it under tokenRequests`),
		refused("tokens of another audience", nil, codes.InvalidArgument, `csi.storage.k8s.io/serviceAccount.tokens: the kubelet sent no token for audience "api://AzureADTokenExchange", the CSIDriver object secrets-store.csi.k8s.io must list it under tokenRequests`, tokens, string(otherAudience)),
		refused("tokens that are no JSON", nil, codes.InvalidArgument, "csi.storage.k8s.io/serviceAccount.tokens: is not the JSON that the kubelet writes", tokens, "x"),
		refused("no identity", nil, codes.InvalidArgument, `clientID: is missing, and the pod names no Secret with clientid and clientsecret: write clientID (workload identity), useVMManagedIdentity: "true" (identity of the node), or set nodePublishSecretRef in the pod's volume`, "clientID", ""),
		refused("a Secret without clientid", secret("clientsecret", "x"), codes.InvalidArgument, "nodePublishSecretRef[clientid]: is missing; add the key to the Secret, or write clientID in the class for a workload identity", "clientID", ""),
		refused("a wrong clientsecret", secret("clientid", node.PrincipalID, "clientsecret", "wrong"), codes.Unauthenticated, `objects[0]: secret "login" of https://shop.vault.azure.net as servicePrincipal 66666666-7777-8888-9999-000000000000: Entra ID answered HTTP 401 invalid_client, AADSTS7000215: the client secret is wrong; give its value, not its id, in the Secret of nodePublishSecretRef`, "clientID", ""),
		refused("usePodIdentity", login, codes.InvalidArgument, "usePodIdentity: is not supported, AAD Pod Identity is archived; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account", "usePodIdentity", "true"),
		refused("useAzureTokenProxy", login, codes.InvalidArgument, "useAzureTokenProxy: is not supported, this driver has no AKS identity bindings; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account", "useAzureTokenProxy", "true"),
		refused("two modes", login, codes.InvalidArgument, "useVMManagedIdentity: only one of usePodIdentity, useVMManagedIdentity and useAzureTokenProxy can be true", "useAzureTokenProxy", "true", "useVMManagedIdentity", "true"),
	}
	if s.noMetadata != "" {
		t.Log("without the classes with a managed identity: ", s.noMetadata)
		return classes
	}
	const managed = "useVMManagedIdentity"
	denied := by("a managed identity that the policy does not allow", nil, noToken, as(deniedID, "managed"), managed, "true", "userAssignedIdentityID", deniedID)
	denied.instead, denied.why = refusal(codes.PermissionDenied, "the driver's policy does not let service account shop/web use identity managed "+deniedID+
		" at https://shop.vault.azure.net, answered by "+deniedResource+": no rule of the policy file allows it; the operator must add one, such as "+
		`{namespaces: ["shop"], serviceAccounts: ["web"], identities: [managed], clientIDs: ["`+deniedResource+`"], vaults: ["https://shop.vault.azure.net"]}`), "the operator decides who may use an identity of the node"
	return append(classes,
		by("the system-assigned identity", nil, noToken, as(systemID, "managed"), managed, "true", "clientID", ""),
		by("the system-assigned identity, with an empty id", nil, noToken, as(systemID, "managed"), managed, "True", "userAssignedIdentityID", " ", "clientID", ""),
		by("a user-assigned identity", nil, noToken, as(assignedID, "managed"), managed, "1", "userAssignedIdentityID", assignedID, "clientID", ""),
		by("a user-assigned identity before clientID and a Secret", login, kubelet.Volume{}, as(assignedID, "managed"), managed, "t", "userAssignedIdentityID", " "+assignedID+" "),
		denied,
		refused("an identity that the node does not have", nil, codes.Unauthenticated, `objects[0]: secret "login" of https://shop.vault.azure.net as managed 11111111-2222-3333-4444-555555555555: the node's metadata service answered HTTP 400 invalid_request: the node has no such identity; assign it to the VM or its scale set`, managed, "true", "userAssignedIdentityID", node.WorkloadID),
	)
}
