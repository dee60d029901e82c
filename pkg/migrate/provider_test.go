package migrate_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The files provider*_test.go are a model of the Secrets Store CSI Driver with the Azure provider. It is written from the answers
// of these programs and shares nothing with package migrate, so that an error there is not repeated here. Where the provider's
// answer is a mistake (a mode 0000 for "abc", two objects in one file), the model refuses: migrate must tell it.

// asked is what a volume asks for and what it writes.
type asked struct {
	vault    string
	identity string
	files    map[string]askedFile // by path
	unread   []string             // the names that the provider ignores
}

// askedFile is a file. The provider decides by the answer of the vault what it writes, so there may be several contents.
type askedFile struct {
	mode     string
	contents []string
}

func (f askedFile) String() string { return f.mode + " " + strings.Join(f.contents, " or ") }

// String returns one line for the vault and the identity, and one for each file.
func (a asked) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "vault %s, %s", a.vault, a.identity)
	for _, path := range slices.Sorted(maps.Keys(a.files)) {
		fmt.Fprintf(&b, "\n    %s: %v", path, a.files[path])
	}
	return b.String()
}

// loginSecret is the Secret of a nodePublishSecretRef. The keys are nil if the Secret is not among the manifests.
type loginSecret struct {
	name string
	keys map[string]string
}

// providerReads are the parameters that the provider reads, beside those of the kubelet.
var providerReads = []string{
	"cloudEnvFileName", "cloudName", "clientID", "keyvaultName", "objects", "tenantID", "tenantId", "useAzureTokenProxy",
	"usePodIdentity", "useVMManagedIdentity", "userAssignedIdentityID",
}

// provide returns what the provider does with these parameters, or why it refuses them.
func provide(parameters map[string]string, login *loginSecret) (a asked, err error) {
	read := func(name string) string { return strings.TrimSpace(parameters[name]) }
	tenant := cmp.Or(read("tenantID"), read("tenantId"))
	if tenant == "" {
		return a, errors.New("no tenant")
	}
	if a.vault, err = providerVault(read("keyvaultName"), read("cloudName")); err != nil {
		return a, err
	}
	if a.identity, err = providerIdentity(read, tenant, login); err != nil {
		return a, err
	}
	if a.files, a.unread, err = providerFiles(read("objects")); err != nil {
		return a, err
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if !slices.Contains(providerReads, name) && name != classAttribute && !strings.HasPrefix(name, "csi.storage.k8s.io/") {
			a.unread = append(a.unread, name)
		}
	}
	return a, nil
}

// providerClouds are the names of clouds, in upper case, and the DNS suffixes of their vaults. AZURECHINA is not known to the
// provider, but nothing else can be meant. The vaults of an Azure Stack are in a file of its own; the suffix stands for it.
var providerClouds = map[string]string{
	"":                       "vault.azure.net",
	"AZURECLOUD":             "vault.azure.net",
	"AZUREPUBLICCLOUD":       "vault.azure.net",
	"AZUREUSGOVERNMENT":      "vault.usgovcloudapi.net",
	"AZUREUSGOVERNMENTCLOUD": "vault.usgovcloudapi.net",
	"AZURECHINA":             "vault.azure.cn",
	"AZURECHINACLOUD":        "vault.azure.cn",
	"AZUREGERMANCLOUD":       "vault.microsoftazure.de",
	"AZURESTACKCLOUD":        "vault.stack.example.com",
}

var providerVaultName = regexp.MustCompile(`^[-a-zA-Z0-9]{3,24}$`)

func providerVault(name, cloud string) (string, error) {
	suffix, known := providerClouds[strings.ToUpper(cloud)]
	switch {
	case name == "":
		return "", errors.New("no keyvaultName")
	case !known:
		return "", fmt.Errorf("cloudName %q", cloud)
	case !providerVaultName.MatchString(name):
		return "", fmt.Errorf("keyvaultName %q", name)
	}
	return strings.ToLower(name) + "." + suffix, nil
}

// providerIdentity: only one of the flags may be true. Without any it is the workload's identity if there is a client id, else that
// of the Secret. With the node's identity the tenant has no effect.
func providerIdentity(read func(string) string, tenant string, login *loginSecret) (string, error) {
	var modes []string
	for _, flag := range []string{"usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy"} {
		text := read(flag)
		if text == "" {
			continue
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			return "", fmt.Errorf("%s %q is no flag", flag, text)
		}
		if on {
			modes = append(modes, flag)
		}
	}
	client := read("clientID")
	switch {
	case len(modes) > 1:
		return "", fmt.Errorf("several identities: %v", modes)
	case len(modes) == 1 && modes[0] == "useVMManagedIdentity":
		return managedIdentity(read("userAssignedIdentityID")), nil
	case len(modes) == 1:
		return modes[0] + " " + client, nil // no volume of this driver has it
	case client != "":
		return workloadIdentity(client, tenant), nil
	case login == nil:
		return "", errors.New("no identity")
	case login.keys == nil:
		return secretIdentity(login.name, "", tenant), nil
	case login.keys["clientid"] == "" || login.keys["clientsecret"] == "":
		return "", fmt.Errorf("the Secret %s has no login", login.name)
	}
	return secretIdentity(login.name, login.keys["clientid"], tenant), nil
}

func managedIdentity(id string) string {
	return strings.TrimSpace("identity of the node " + strings.ToLower(id))
}

func workloadIdentity(client, tenant string) string {
	return strings.ToLower("workload identity " + client + " of tenant " + tenant)
}

func secretIdentity(secret, client, tenant string) string {
	return "Secret " + secret + " of tenant " + strings.ToLower(tenant+clientOf+client)
}

const clientOf = ", service principal "
