package daemon_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestRefused sends invalid attributes through the socket. The parser has more tests of its own; this one checks the text in the events of
// the pod, and that no request is sent before.
func TestRefused(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	principal := workload("secrets", "a", "clientID", "")
	principal.Secret = map[string]string{"clientid": node.PrincipalID}
	disagree := workload("secrets", "a")
	disagree.Secret = map[string]string{"clientID": node.PrincipalID, "ClientSecret": "s", "tenantid": "contoso.example"}
	noToken := workload("secrets", "a")
	noToken.NoToken = true
	tests := map[string]struct {
		volume kubelet.Volume
		text   string
	}{
		"unknown attribute":          {workload("secrets", "a", "colour", "red"), `colour: unknown attribute`},
		"near miss":                  {workload("secrets", "a", "clientId", node.WorkloadID), `clientId: unknown attribute, did you mean clientID?`},
		"another tool's name":        {workload("secrets", "a", "keyvaultName", "shop"), `keyvaultName: unknown attribute, did you mean vault?`},
		"nothing asked for":          {workload(), `volumeAttributes: at least one of secrets, certificates and objects must be there`},
		"no vault":                   {workload("secrets", "a", "vault", ""), `vault: is missing, and secrets[0] names no vault of its own`},
		"vault of another cloud":     {workload("secrets", "a", "vault", "https://shop.vault.azure.cn"), `vault: "https://shop.vault.azure.cn" is not a vault of this cloud, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first), vault.azure.cn belongs to another cloud than the one this driver is set up for`},
		"vault without TLS":          {workload("secrets", "a", "vault", "http://shop.vault.azure.net"), `vault: "http://shop.vault.azure.net" is not a vault, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)`},
		"vault with a path":          {workload("secrets", "a", "vault", "https://shop.vault.azure.net/secrets"), `vault: "https://shop.vault.azure.net/secrets" is not a vault of this cloud, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)`},
		"vault with two labels":      {workload("secrets", "a", "vault", "https://evil.shop.vault.azure.net"), `vault: "https://evil.shop.vault.azure.net" is not a vault, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)`},
		"vault of a private link":    {workload("secrets", "a", "vault", "https://shop.privatelink.vaultcore.azure.net"), `vault: "https://shop.privatelink.vaultcore.azure.net" is not a vault of this cloud, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first), the public name leads to the private endpoint by itself, write it without privatelink`},
		"vault that looks right":     {workload("secrets", "a", "vault", "https://shоp.vault.azure.net"), `vault: "https://sh\u043ep.vault.azure.net" is not a vault, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)`}, // a Cyrillic o
		"name":                       {workload("secrets", "a;no_underscore"), `secrets[1]: the name "no_underscore" is not 1 to 127 letters, digits and hyphens`},
		"version":                    {workload("secrets", "a:v1"), `secrets[0]: the version "v1" is not 32 hexadecimal digits`},
		"certfile that climbs":       {workload("secrets", "a::../../etc/cron.d/x"), `secrets[0]: the certfile "../../etc/cron.d/x" is not a plain file name`},
		"empty certfile":             {workload("secrets", "a::"), `secrets[0]: the certfile "" is empty`},
		"star among others":          {workload("secrets", "a;*"), `secrets[1]: "*" must stand alone`},
		"certificates star":          {workload("certificates", "*"), `certificates[0]: "*" stands for all secrets, in the attribute secrets only, name the certificates`},
		"two entries, one file":      {workload("secrets", "a;a:0123456789abcdef0123456789abcdef"), `secrets[1]: writes "secrets/a", which secrets[0] writes already`},
		"downloadCACertificates":     {workload("secrets", "a", "downloadCACertificates", "yes"), `downloadCACertificates: "yes" must be true or false`},
		"downloadCACertificates.X":   {workload("secrets", "a", "downloadCACertificates.a", "maybe"), `downloadCACertificates.a: "maybe" must be true or false`},
		"savePFX":                    {workload("secrets", "a", "savePFX", "1"), `savePFX: "1" must be true or false`},
		"chainOrder":                 {workload("secrets", "a", "chainOrder", "root"), `chainOrder: "root" must be chain, pfx or reverse`},
		"identity":                   {workload("secrets", "a", "identity", "msi"), `identity: "msi" must be workload, servicePrincipal, managed or cluster`},
		"clientID":                   {workload("secrets", "a", "clientID", "me"), `clientID: is not a GUID`},
		"no identity":                {workload("secrets", "a", "clientID", ""), `identity: the pod names none: set clientID (workload identity), or name a Secret with clientid and clientsecret or clientcertificate in nodePublishSecretRef (servicePrincipal), or set identity to managed or to cluster`},
		"objectID with workload":     {workload("secrets", "a", "objectID", node.WorkloadID), `objectID: does not go with identity workload`},
		"resourceID":                 {workload("secrets", "a", "identity", "managed", "clientID", "", "resourceID", "mine"), `resourceID: "mine" is not a resource id that begins with /subscriptions/`},
		"tenantID":                   {workload("secrets", "a", "tenantID", "my tenant"), `tenantID: is not a GUID, a domain name or auto`},
		"rotationInterval":           {workload("secrets", "a", "rotationInterval", "10s"), `rotationInterval: "10s" must be a Go duration of at least 30s such as "5m", or "0" for never`},
		"timeout":                    {workload("secrets", "a", "timeout", "5m"), `timeout: "5m" must be a Go duration above 0 and up to 110s such as "90s"`},
		"objects that are no YAML":   {workload("objects", "- secret: ["), `objects: is not YAML: line 1: did not find expected node content`},
		"objects that are no list":   {workload("objects", "secret: a"), `objects: must be a YAML list, not a mapping`},
		"unknown field":              {workload("objects", "- secret: a\n  alias: b"), `objects[0].alias: unknown field`},
		"objects path":               {workload("objects", "- secret: a\n  path: ../a"), `objects[0].path: the path "../a" has a component that begins with ".."`},
		"objects mode":               {workload("objects", "- secret: a\n  mode: \"1777\""), `objects[0].mode: "1777" must be permission bits in octal such as "0440"`},
		"objects encoding":           {workload("objects", "- secret: a\n  encoding: rot13"), `objects[0].encoding: "rot13" must be utf-8, base64 or hex`},
		"objects keyFormat":          {workload("objects", "- certificate: a\n  keyFormat: der"), `objects[0].keyFormat: "der" must be pkcs8, pkcs1 or sec1`},
		"a password in clear":        {workload("objects", "- {certificate: a, pfx: b, pfxPassword: hunter2}"), `objects[0].pfxPassword: must be {secret: NAME}, the secret that holds the password, and not the password itself`},
		"a key of a public part":     {workload("objects", "- {certificate: a, source: certificate, key: b}"), `objects[0].key: does not go with source: certificate, which has no private key`},
		"a field of a manifest":      {workload("objects", "- {manifest: a, tag: true}"), `objects[0].tag: unknown field, did you mean tags?`},
		"file and folder":            {workload("objects", "- secret: a\n  path: x\n- secret: b\n  path: x/y"), `objects[1]: writes "x/y", but objects[0] writes the file "x"`},
		"no token":                   {noToken, `csi.storage.k8s.io/serviceAccount.tokens: the kubelet sent no token for audience "api://AzureADTokenExchange", the CSIDriver object keyvault-csi.io must list it under tokenRequests`},
		"half a service principal":   {principal, `identity: servicePrincipal needs the key clientsecret or clientcertificate in the Secret of nodePublishSecretRef`},
		"secret and attribute clash": {disagree, `clientID: differs from the key clientid of the Secret`},
		"three problems at once":     {workload("secrets", "a b", "vault", "x", "timeout", "-1s"), `timeout: "-1s" must be a Go duration above 0 and up to 110s such as "90s"; vault: "x" is not a vault, want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first); secrets[0]: the name "a b" is not 1 to 127 letters, digits and hyphens`},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) {
			refused(t, n, tests[name].volume, codes.InvalidArgument, tests[name].text)
		})
	}
	if counts := n.Cloud.Counts(); len(counts) != 0 {
		t.Errorf("the cloud got requests before the attributes were checked: %v", counts)
	}
}

func TestATokenOfAnotherServiceAccount(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	v := workload("secrets", "a")
	other := v
	other.ServiceAccount = "other"
	request, err := n.Request(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	stolen := request.GetSecrets()["csi.storage.k8s.io/serviceAccount.tokens"]
	// A pod may write the kubelet's key into its attributes, which old clusters do not replace.
	v.NoToken = true
	v.Attributes["csi.storage.k8s.io/serviceAccount.tokens"] = stolen
	refused(t, n, v, codes.InvalidArgument, `csi.storage.k8s.io/serviceAccount.tokens: the token for audience "api://AzureADTokenExchange" is not that of the pod's service account "shop/web"`)
}

// The same for an identity that needs no token.
func TestATokenOfAnotherServiceAccountBesideASecret(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	v := workload("secrets", "a", "clientID", "")
	v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}
	token := n.Token
	n.Token = func(ctx context.Context, v kubelet.Volume) (string, error) {
		v.ServiceAccount = "other"
		return token(ctx, v)
	}
	refused(t, n, v, codes.InvalidArgument, `csi.storage.k8s.io/serviceAccount.tokens: `+
		`the token for audience "api://AzureADTokenExchange" is not that of the pod's service account "shop/web"`)
}

func TestACallWithoutPodInfo(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	v := workload("secrets", "a")
	v.NoPodInfo = true
	var problems []string
	for _, key := range []string{"pod.name", "pod.namespace", "pod.uid", "serviceAccount.name"} {
		problems = append(problems, "csi.storage.k8s.io/"+key+": is missing, the CSIDriver object keyvault-csi.io must have podInfoOnMount: true")
	}
	refused(t, n, v, codes.InvalidArgument, strings.Join(problems, "; "))
}
