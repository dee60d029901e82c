package providerclass_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestIdentities(t *testing.T) {
	t.Parallel()
	const resource = "/subscriptions/1/resourceGroups/r/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"
	login := map[string]string{"ClientID": client + "\n", "CLIENTSECRET": "s3cret\n", "tenantid": "other.example.com", "clientcertificate": "x"}
	for _, test := range []struct {
		name       string
		parameters map[string]string
		secrets    map[string]string
		want       volume.Identity
	}{
		{"workload", class(), nil, volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
		{"workload, in capitals and with blanks", class("clientID", " "+strings.ToUpper(client)+" "), nil,
			volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
		{"workload beside a Secret", class(), map[string]string{"clientid": tenant, "clientsecret": "x"},
			volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
		{"the Secret", class("clientID", ""), login,
			volume.Identity{Kind: volume.ServicePrincipal, ClientID: client, TenantID: tenant, ClientSecret: volume.NewSecret([]byte("s3cret"))}},
		{"the node", class("useVMManagedIdentity", "1"), login, volume.Identity{Kind: volume.Managed, TenantID: tenant}},
		{"an identity of the node", class("useVMManagedIdentity", "T", "userAssignedIdentityID", client), nil,
			volume.Identity{Kind: volume.Managed, ClientID: client, TenantID: tenant}},
		{"an identity of the node by its resource id", class("useVMManagedIdentity", "true", "userAssignedIdentityID", resource), nil,
			volume.Identity{Kind: volume.Managed, ResourceID: resource, TenantID: tenant}},
		{"an id of the node that has no effect", class("userAssignedIdentityID", "x"), nil,
			volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
		{"the older name of the tenant", class("tenantID", "", "tenantId", tenant), nil,
			volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
		{"both names of the tenant", class("tenantId", "x"), nil, volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
		{"flags that are false", class("usePodIdentity", "0", "useVMManagedIdentity", "F", "useAzureTokenProxy", "false",
			"usePodServiceAccountAnnotation", "false"), nil, volume.Identity{Kind: volume.Workload, ClientID: client, TenantID: tenant}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request, err := providerclass.Request(inPod(test.parameters), test.secrets, options())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(request.Identity.ClientSecret.Reveal()), string(test.want.ClientSecret.Reveal()); got != want {
				t.Error("another client secret")
			}
			if diff := cmp.Diff(test.want, request.Identity, cmpopts.IgnoreTypes(volume.Secret{}), cmpopts.IgnoreFields(volume.Identity{}, "Issuer")); diff != "" {
				t.Error(diff)
			}
			if want := (volume.Pod{Name: "web", Namespace: "shop", UID: "1b4e28ba", ServiceAccount: "web"}); request.Pod != want {
				t.Errorf("pod %v", request.Pod)
			}
		})
	}
}

// The tokens come in the attributes, or in the secrets if the CSIDriver object says so.
func TestTokens(t *testing.T) {
	t.Parallel()
	o := options()
	o.Defaults.TokenAudience = "api://Custom"
	text := tokens("api://Custom")
	for _, test := range []struct {
		name                string
		parameters, secrets map[string]string
	}{
		{"attributes", class(volume.KubeletTokens, text), nil},
		{"secrets", class(), map[string]string{volume.KubeletTokens: text}},
	} {
		request, err := providerclass.Request(inPod(test.parameters), test.secrets, o)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if !strings.Contains(text, `"`+string(request.Identity.Assertion.Reveal())+`"`) || request.Identity.Issuer != "https://issuer.example.com" {
			t.Errorf("%s: issuer %q, or another token", test.name, request.Identity.Issuer)
		}
	}
}

func TestClouds(t *testing.T) {
	t.Parallel()
	const china = "vault.azure.cn"
	for _, test := range []struct {
		name, cloud, suffix string // of the driver
		want                string // the vault, or an error
	}{
		{"", "", "", "https://golden.vault.azure.net"},
		{"", "AzureChinaCloud", china, "https://golden.vault.azure.cn"},
		{"", "custom", "vault.local", "https://golden.vault.local"},
		{"AZUREPUBLICCLOUD", "AzurePublicCloud", "", "https://golden.vault.azure.net"},
		{"azurecloud", "", "", "https://golden.vault.azure.net"},
		{"AzureUSGovernment", "AzureUSGovernmentCloud", "vault.usgovcloudapi.net", "https://golden.vault.usgovcloudapi.net"},
		{"AzureUSGovernmentCloud", "azureusgovernmentcloud", "vault.usgovcloudapi.net", "https://golden.vault.usgovcloudapi.net"},
		{" AzureChinaCloud ", "AzureChinaCloud", china, "https://golden.vault.azure.cn"},
		{"AzureChina", "AzureChinaCloud", china, "https://golden.vault.azure.cn"},
		{"azurestackcloud", "custom", "vault.local", "https://golden.vault.local"},
		{"AzureChinaCloud", "", "",
			`cloudName: "AzureChinaCloud" is another cloud than that of this driver, AzurePublicCloud; remove it, or install the driver with --cloud AzureChinaCloud`},
		{"AzureStackCloud", "", "",
			`cloudName: "AzureStackCloud" is another cloud than that of this driver, AzurePublicCloud; remove it, or install the driver with --cloud custom`},
		{"AzurePublicCloud", "custom", "vault.local",
			`cloudName: "AzurePublicCloud" is another cloud than that of this driver, which runs with --cloud custom; remove it, or write AzureStackCloud`},
		{"AzureGermanCloud", "", "",
			`cloudName: "AzureGermanCloud" is not a cloud of this driver, AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureStackCloud`},
		{"custom", "custom", "vault.local",
			`cloudName: "custom" is not a cloud of this driver, AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureStackCloud`},
	} {
		o := providerclass.Options{Cloud: test.cloud, Defaults: volume.Defaults{VaultSuffix: test.suffix}}
		request, err := providerclass.Request(inPod(class("keyvaultName", "Golden", "cloudName", test.name, "cloudEnvFileName", "/x.json")), nil, o)
		got := errorText(err)
		if err == nil {
			got = request.Objects[0].Vault
		}
		if got != test.want {
			t.Errorf("%q with %q: %s, want %s", test.name, test.cloud, got, test.want)
		}
	}
}

// Each object is what the vault is asked for and which files it becomes.
func TestObjects(t *testing.T) {
	t.Parallel()
	const version = "0123456789abcdef0123456789abcdef"
	secret := func(part volume.Part, path string, mode fs.FileMode) volume.Object {
		return volume.Object{
			Kind: volume.KindSecret, Source: "objects[0]", Vault: "https://golden.vault.azure.net", Name: "plain", ID: "secret/plain",
			Encoding: volume.UTF8, KeyFormat: volume.PKCS8, ChainOrder: volume.ChainOrderKeyID,
			Outputs: []volume.Output{{Part: part, Path: path, Mode: mode}},
		}
	}
	with := func(o volume.Object, change func(*volume.Object)) volume.Object { change(&o); return o }
	plain := secret(volume.PartPEMOrValue, "plain", 0o644)
	key := volume.Object{
		Kind: volume.KindKey, Source: "objects[0]", Vault: "https://golden.vault.azure.net", Name: "plain", ID: "key/plain",
		Outputs: []volume.Output{{Part: volume.PartPublicKey, Path: "plain", Mode: 0o644}},
	}
	cert := with(key, func(o *volume.Object) {
		o.Kind, o.ID = volume.KindPublicCertificate, "cert/plain"
		o.Outputs = []volume.Output{{Part: volume.PartCert, Path: "plain", Mode: 0o644}}
	})
	split := []volume.Output{{Part: volume.PartCertBlocks, Path: "plain.crt", Mode: 0o644}, {Part: volume.PartOtherBlocks, Path: "plain.key", Mode: 0o644}}
	separate := providerclass.Options{Mode: 0o644, SeparateFiles: true}
	of := func(kind, fields string) string {
		return "array:\n- |\n  objectName: plain\n  objectType: " + kind + "\n  " + fields + "\n"
	}
	for _, test := range []struct {
		name, objects string
		options       providerclass.Options
		want          []volume.Object
	}{
		{"a secret", object(""), options(), []volume.Object{plain}},
		{"PEM", object("objectFormat: PEM"), options(), []volume.Object{plain}},
		{"PFX", object("objectFormat: PFX"), options(), []volume.Object{secret(volume.PartValue, "plain", 0o644)}},
		{"in separate files", object(""), separate, []volume.Object{with(plain, func(o *volume.Object) { o.Split = split })}},
		{"PFX in separate files", object("objectFormat: pfx"), separate,
			[]volume.Object{with(secret(volume.PartValue, "plain", 0o644), func(o *volume.Object) { o.Split = split })}},
		{"in file order", object(""), providerclass.Options{Mode: 0o400, FileOrder: true},
			[]volume.Object{with(secret(volume.PartPEMOrValue, "plain", 0o400), func(o *volume.Object) { o.ChainOrder = volume.ChainOrderFile })}},
		{"an encoding", object("objectEncoding: Base64"), options(), []volume.Object{with(plain, func(o *volume.Object) { o.Encoding = volume.Base64 })}},
		{"another encoding", object("objectEncoding: hex"), options(), []volume.Object{with(plain, func(o *volume.Object) { o.Encoding = volume.Hex })}},
		{"no encoding", object("objectEncoding: UTF-8"), options(), []volume.Object{plain}},
		{"a key", of("key", ""), options(), []volume.Object{key}},
		{"a key as PFX in capitals", of("key", "objectFormat: PFX"), separate, []volume.Object{key}},
		{"a certificate", of("cert", "objectFormat: pem"), separate, []volume.Object{cert}},
		{"a version", object("objectVersion: " + strings.ToUpper(version)), options(), []volume.Object{with(plain, func(o *volume.Object) { o.Version = version })}},
		{"the latest version", object("objectVersion: Latest"), options(), []volume.Object{plain}},
		{"a folder", object("objectAlias: ./a//b/"), options(), []volume.Object{secret(volume.PartPEMOrValue, "a/b", 0o644)}},
		{"a permission", object("filePermission: 0400"), options(), []volume.Object{secret(volume.PartPEMOrValue, "plain", 0o400)}},
		{"one digit", object(`filePermission: "4"`), options(), []volume.Object{secret(volume.PartPEMOrValue, "plain", 0o4)}},
		{"history of 1", object("objectVersionHistory: 1"), options(), []volume.Object{plain}},
		{"history below 0", object("objectVersionHistory: -1"), options(), []volume.Object{plain}},
		{"history empty", object("objectVersionHistory:"), options(), []volume.Object{plain}},
		{"the same twice", object("") + "- |\n  objectType: secret\n  objectName: plain\n  objectAlias: plain\n  objectEncoding: utf-8\n", options(), []volume.Object{plain}},
		{"the same twice, once with the default format", object("") + "- |\n  objectType: secret\n  objectName: plain\n  objectFormat: PEM\n", options(), []volume.Object{plain}},
		{"fields that are not text", "array: ['{objectName: 12, objectType: secret, objectAlias: 1.50}']", options(), []volume.Object{
			with(secret(volume.PartPEMOrValue, "1.50", 0o644), func(o *volume.Object) { o.Name, o.ID = "12", "secret/12" })}},
		{"an unknown field", object("objectNote: x"), options(), []volume.Object{plain}},
		{"an alias of YAML", "text: &a \"{objectName: plain, objectType: secret}\"\narray: [*a, *a]", options(), []volume.Object{plain}},
		{"a second document", object("") + "---\n{", options(), []volume.Object{plain}},
		{"an empty array", "array: []", options(), []volume.Object{}},
		{"no array", "arrays: [x]", options(), []volume.Object{}},
		{"a comment", "# nothing", options(), []volume.Object{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request, err := providerclass.Request(inPod(class("objects", test.objects)), nil, test.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, request.Objects); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	const older = "ffffffffffffffffffffffffffffffff"
	o := providerclass.Options{Mode: 0o644, SeparateFiles: true}
	request, err := providerclass.Request(inPod(class("objects",
		object("objectVersionHistory: 2000000000\n  objectAlias: v/s\n  filePermission: 0440\n  objectEncoding: hex"))), nil, o)
	if err != nil {
		t.Fatal(err)
	}
	all := request.Objects[0]
	if all.History == nil || all.History.Most != volume.MaxEntries || all.ID != "" || all.Outputs != nil {
		t.Fatalf("%+v", all)
	}
	one := all.History.Each(3, older)
	want := volume.Object{
		Kind: volume.KindSecret, Source: "objects[0]", Vault: "https://golden.vault.azure.net", Name: "plain", Version: older, ID: "secret/plain/3",
		Encoding: volume.Hex, KeyFormat: volume.PKCS8, ChainOrder: volume.ChainOrderKeyID,
		Outputs: []volume.Output{{Part: volume.PartPEMOrValue, Path: "v/s/3", Mode: 0o440}},
		Split:   []volume.Output{{Part: volume.PartCertBlocks, Path: "v/s/3.crt", Mode: 0o440}, {Part: volume.PartOtherBlocks, Path: "v/s/3.key", Mode: 0o440}},
	}
	if diff := cmp.Diff(want, one); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const audience = "api://AzureADTokenExchange"
	const federate = "; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account"
	objects := func(text string) map[string]string { return class("objects", text) }
	one := func(fields string) map[string]string { return objects(object(fields)) }
	for _, test := range []struct {
		parameters, secrets map[string]string
		want                string
	}{
		{class("useAzureTokenProxy", "true"), nil, "useAzureTokenProxy: is not supported, this driver has no AKS identity bindings" + federate},
		{class("usePodIdentity", "true"), nil, "usePodIdentity: is not supported, AAD Pod Identity is archived" + federate},
		{class("usePodServiceAccountAnnotation", "true"), nil,
			"usePodServiceAccountAnnotation: is not supported, this driver does not read service accounts; write the client id as clientID"},
		{class("useVMManagedIdentity", "on"), nil, `useVMManagedIdentity: "on" is neither true nor false`},
		{class("clientID", ""), nil, "clientID: is missing, and the pod names no Secret with clientid and clientsecret: write clientID (workload identity), " +
			`useVMManagedIdentity: "true" (identity of the node), or set nodePublishSecretRef in the pod's volume`},
		{class("clientID", "", "clientid", client), map[string]string{"tenantid": "x"},
			"clientID: is missing, and the pod names no Secret with clientid and clientsecret: write clientID (workload identity), " +
				`useVMManagedIdentity: "true" (identity of the node), or set nodePublishSecretRef in the pod's volume; "clientid" is not read, did you mean clientID?`},
		{class("clientID", ""), map[string]string{"clientsecret": "s3cret", "clientid": " "},
			"nodePublishSecretRef[clientid]: is missing; add the key to the Secret, or write clientID in the class for a workload identity"},
		{class("clientID", ""), map[string]string{"clientsecret": "s3cret", "clientid": "s3cret"}, "nodePublishSecretRef[clientid]: is not a GUID"},
		{class("clientID", ""), map[string]string{"clientsecret": "a", "ClientSecret": "b", "clientid": client},
			"nodePublishSecretRef[clientsecret]: the Secret has this key in two spellings with two values"},
		{class("clientID", "s3cret"), nil, "clientID: is not a GUID"},
		{class("useVMManagedIdentity", "true", "userAssignedIdentityID", "web"), nil, "userAssignedIdentityID: is not a GUID"},
		{class("useVMManagedIdentity", "true", "userAssignedIdentityID", "/subscriptions/a b"), nil,
			`userAssignedIdentityID: "/subscriptions/a b" is not a resource id that begins with /subscriptions/`},
		{class("tenantID", "x"), nil, "tenantID: is not a GUID, a domain name or auto"},
		{class("tenantID", "", "tenantId", "x"), nil, "tenantId: is not a GUID, a domain name or auto"},
		{class("tenantID", "", "tenantId", "ADFS"), nil, "tenantId: adfs is not supported, this driver speaks with Entra ID only"},
		{class(volume.KubeletTokens, "{}"), nil, `csi.storage.k8s.io/serviceAccount.tokens: the kubelet sent no token for audience "` + audience +
			`", the CSIDriver object secrets-store.csi.k8s.io must list it under tokenRequests`},
		{class(volume.KubeletPodName, " "), nil, `csi.storage.k8s.io/pod.name: " " is not a name that the kubelet sends`},
		{class("keyvaultName", "a/../b"), nil, `keyvaultName: "a/../b" is not the name of a vault, 3 to 24 letters, digits and hyphens`},
		{class("keyvaultName", "abcdefghijklmnopqrstuvwxy"), nil,
			`keyvaultName: "abcdefghijklmnopqrstuvwxy" is not the name of a vault, 3 to 24 letters, digits and hyphens`},

		{class("objects", " ", "object", "x"), nil, `objects: is missing or empty; "object" is not read, did you mean objects?`},
		{objects("array: ["), nil, "objects: is not YAML; it must be a mapping with the key array, and in it one text for each object"},
		{objects("array: x"), nil, "objects: array is not a list; it must be a mapping with the key array, and in it one text for each object"},
		{objects("a: 1\na: 2"), nil,
			"objects: is not a mapping, or has a key twice; it must be a mapping with the key array, and in it one text for each object"},
		{objects("<<: {array: []}"), nil,
			"objects: has a merge key (<<), which is not taken here; it must be a mapping with the key array, and in it one text for each object"},
		{objects("array: [[x]]"), nil, "objects[0]: is not a text"},
		{objects("array: [x, '{', '[]', 'a: 1\n\n  a: 1']"), nil, "objects[0]: is not a mapping, or has a key twice; objects[1]: is not YAML; " +
			"objects[2]: is not a mapping, or has a key twice; objects[3]: is not a mapping, or has a key twice"},
		{objects("array: ['', '~']"), nil, `objects[0].objectName: is missing; objects[0].objectType: "" is none of secret, key and cert; ` +
			`objects[1].objectName: is missing; objects[1].objectType: "" is none of secret, key and cert`},
		{objects("array: ['{objectname: plain, objectType: secret}']"), nil,
			`objects[0].objectName: is missing; "objectname" is not read, did you mean objectName?`},
		{objects("array: ['{objectName: a/../b, objectType: Secret}']"), nil,
			`objects[0].objectType: "Secret" is none of secret, key and cert; objects[0].objectName: "a/../b" is not 1 to 127 letters, digits and hyphens`},
		{objects("array: ['{objectName: rsa, objectType: cert, objectFormat: pfx}']"), nil, "objects[0].objectFormat: pfx is for secrets only"},
		{one("objectVersion: v1"), nil, `objects[0].objectVersion: the version "v1" is not 32 hexadecimal digits`},
		{one("objectVersionHistory: three"), nil, "objects[0].objectVersionHistory: is not a number"},
		{one(`objectVersionHistory: "3"`), nil, "objects[0].objectVersionHistory: is not a number"},
		{one("objectVersionHistory: 3000000000"), nil, "objects[0].objectVersionHistory: is not a number"},
		{one("objectNotAfter: 2027-01-01T00:00:00Z"), nil,
			"objects[0].objectNotAfter: is not supported: it selects versions by their expiry, and without it other versions would be written; remove it"},
		{one("objectAlias: [x]"), nil, "objects[0].objectAlias: is not a text"},
		{one("objectAlias: " + strings.Repeat("a", 4097)), nil, "objects[0].objectAlias: is longer than 4096 bytes"},
		{one("objectAlias: /etc/passwd"), nil, `objects[0].objectAlias: "/etc/passwd" is absolute, paths are relative to the volume`},
		{one("objectAlias: a..b"), nil, `objects[0].objectAlias: "a..b" contains ".."`},
		{one("objectAlias: ."), nil, `objects[0]: path "." has the component "."`},
		{one(`objectAlias: "a\eb"`), nil, `objects[0]: path "a\x1bb" holds a control character`},
		{one("objectAlias: " + strings.Repeat("a", 256)), nil, `objects[0]: path "` + strings.Repeat("a", 64) + `"... has a component longer than 255 bytes`},
		{one(`filePermission: "1777"`), nil, `objects[0].filePermission: "1777" must be permission bits in octal such as "0440"`},
		{one(`filePermission: "0"`), nil, `objects[0].filePermission: "0" must be permission bits in octal such as "0440"`},
		{objects(object("") + "- |\n  objectName: plain\n  objectType: key\n"), nil, `objects[1]: writes "plain", which objects[0] writes already`},
		{objects(object("objectVersionHistory: 2") + "- |\n  objectName: b\n  objectAlias: plain/0\n  objectType: key\n"), nil,
			`objects[1]: writes "plain/0", which objects[0] writes already`},
		{objects(object("") + "- |\n  objectName: b\n  objectAlias: plain/b\n  objectType: cert\n"), nil,
			`objects[1]: writes "plain/b", but objects[0] writes the file "plain"`},
		{class("keyvaultName", "", "tenantID", "", "objects", "array: x"), nil, "keyvaultName: is missing; tenantID: is missing, the Entra ID tenant of the vault; " +
			"objects: array is not a list; it must be a mapping with the key array, and in it one text for each object"},
	} {
		_, err := providerclass.Request(inPod(test.parameters), test.secrets, options())
		if errorText(err) != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
		if !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%v is not ErrInvalid", err)
		}
	}
}

// Without the pod, errors name the CSIDriver object that has to be changed.
func TestWithoutPod(t *testing.T) {
	t.Parallel()
	_, err := providerclass.Request(class(), nil, options())
	if want := "csi.storage.k8s.io/pod.name: is missing, the CSIDriver object secrets-store.csi.k8s.io must have podInfoOnMount: true; "; !strings.HasPrefix(errorText(err), want) {
		t.Error(err)
	}
}
