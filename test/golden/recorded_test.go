package golden_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestRecordedRuns replays each recorded run: its vault, its environment as attributes, its service principal.
func TestRecordedRuns(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/recorded/*/result.json")
	if err != nil || len(cases) < 10 {
		t.Fatal(cases, err)
	}
	for _, path := range cases {
		folder := filepath.Dir(path)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			var environment map[string]string
			parse(t, filepath.Join(folder, "env.json"), &environment)
			var principal azureFile
			parse(t, filepath.Join(folder, "azure.json"), &principal)

			n := node.New(t, node.Options{})
			fill(t, n.Cloud, filepath.Join(folder, "vault.json"))
			v := kubelet.Volume{
				Name: "keys", Namespace: "default", ServiceAccount: "default",
				Attributes: attributesOf(environment), Secret: principal.secret(), NoToken: true,
			}
			if err := n.Publish(t.Context(), v); err != nil {
				t.Fatalf("publish: %v", err)
			}
			compare(t, n.Target(v), record(t, folder))
		})
	}
}

// attributesOf translates the init container's environment as in docs/migration-agent.md. The service principal of azure.json becomes the
// pod's, so that no file of the node is needed.
func attributesOf(environment map[string]string) map[string]string {
	a := map[string]string{
		"vault":      environment["VAULT_BASE_URL"],
		"identity":   "servicePrincipal",
		"secrets":    "*", // SECRETS_KEYS unset means every secret, present and empty means none
		"chainOrder": "pfx",
	}
	for variable, value := range environment {
		switch variable {
		case "SECRETS_KEYS":
			a["secrets"] = value
		case "CERTS_KEYS":
			a["certificates"] = value
		case "DOWNLOAD_CA_CERTIFICATES":
			a["downloadCACertificates"] = boolean(value)
		case "SAVE_PFX":
			a["savePFX"] = boolean(value)
		case "TIMEOUT":
			a["timeout"] = value + "s"
		}
		if name, found := strings.CutSuffix(variable, "_DOWNLOAD_CA_CERTIFICATE"); found {
			a["downloadCACertificates."+name] = boolean(value)
		}
	}
	return a
}

// boolean parses a boolean like the init container: "yes" and "1" are false.
func boolean(value string) string {
	if strings.EqualFold(value, "true") {
		return "true"
	}
	return "false"
}

// azureFile is the service principal in the node's azure.json.
type azureFile struct {
	TenantID, AADClientID, AADClientSecret string
}

// secret is the Secret of a nodePublishSecretRef.
func (f azureFile) secret() map[string]string {
	return map[string]string{"tenantid": f.TenantID, "clientid": f.AADClientID, "clientsecret": f.AADClientSecret}
}

// recordedVaults is the format of vault.json. The newest version of an object is the last.
type recordedVaults struct {
	Identities []struct {
		Name, TenantID, ClientID, ObjectID string
		ClientSecrets                      []string
	}
	Vaults []struct {
		Name, TenantID string
		Policies       []struct {
			Identity                    string
			Secrets, Certificates, Keys []string
		}
		Secrets, Certificates []struct {
			Name     string
			Versions []struct {
				Version, Value, ContentType string
				CER                         []byte
				Tags                        map[string]string
				Disabled                    bool
			}
		}
	}
}

func fill(t *testing.T, cloud *devcloud.Cloud, path string) {
	t.Helper()
	var recorded recordedVaults
	parse(t, path, &recorded)
	clientIDs := map[string]string{}
	for _, i := range recorded.Identities {
		clientIDs[i.Name] = i.ClientID
		identity := devcloud.Identity{Tenant: i.TenantID, ClientID: i.ClientID, ObjectID: i.ObjectID, Name: i.Name}
		for _, secret := range i.ClientSecrets {
			identity.Secrets = append(identity.Secrets, devcloud.ClientSecret{Value: secret})
		}
		must(t, cloud.AddIdentity(identity))
	}
	for _, recordedVault := range recorded.Vaults {
		vault, err := cloud.AddVault(recordedVault.Name, devcloud.VaultOptions{Tenant: recordedVault.TenantID})
		must(t, err)
		for _, p := range recordedVault.Policies {
			for kind, verbs := range map[devcloud.Kind][]string{
				devcloud.Secrets: p.Secrets, devcloud.Certificates: p.Certificates, devcloud.Keys: p.Keys,
			} {
				for _, verb := range verbs {
					vault.Grant(clientIDs[p.Identity], devcloud.Right(string(kind)+"/"+verb))
				}
			}
		}
		for _, s := range recordedVault.Secrets {
			for _, version := range s.Versions {
				vault.SetSecret(s.Name, version.Value, devcloud.SecretOptions{
					Version: version.Version, ContentType: version.ContentType, Tags: version.Tags, Disabled: version.Disabled,
				})
			}
		}
		for _, c := range recordedVault.Certificates {
			for _, version := range c.Versions {
				_, err := vault.SetCertificate(c.Name, devcloud.CertificateOptions{
					Version: version.Version, ContentType: version.ContentType, Tags: version.Tags, Disabled: version.Disabled,
					CER: version.CER, Secret: version.Value,
				})
				must(t, err)
			}
		}
	}
}

// record is the files of a run. Names, modes and digests are in result.json, because git stores neither empty folders nor modes. The bytes
// are in the folder tree, and must match.
func record(t *testing.T, folder string) map[string]entry {
	t.Helper()
	var result struct {
		Files []struct {
			Path, Mode, SHA256 string
			Dir                bool
			Size               int
		}
	}
	parse(t, filepath.Join(folder, "result.json"), &result)
	tree := map[string]entry{}
	for _, f := range result.Files {
		if f.Dir {
			tree[f.Path] = entry{Mode: f.Mode + "/"}
			continue
		}
		data := node.ReadFile(t, filepath.Join(folder, "tree", f.Path))
		if sum := sha256.Sum256([]byte(data)); hex.EncodeToString(sum[:]) != f.SHA256 || len(data) != f.Size {
			t.Fatalf("tree/%s is not what was recorded; did git or an editor change its line ends?", f.Path)
		}
		tree[f.Path] = entry{Mode: f.Mode, Data: data}
	}
	return tree
}

func parse(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	must(t, json.NewDecoder(bytes.NewReader(content)).Decode(into))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
