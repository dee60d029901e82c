package providerclass_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// recorded is an answer of the provider 1.8 to one class. The tests of package migrate read the same file.
type recorded struct {
	Name       string
	Attributes map[string]string
	Keys       []string          // of the Secret, if they are not clientid and clientsecret
	Files      map[string]string // the modes by path
	IDs        []string
	Error      string
	Vault      bool // what the vault holds decides the answer
}

func answers(t testing.TB) (all []recorded) {
	t.Helper()
	data, err := os.ReadFile("testdata/answers.json")
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil || len(all) < 85 {
		t.Fatalf("%d answers: %v", len(all), err)
	}
	return all
}

// ours are the errors of this package, by the name of the answer. All other classes are accepted.
func ours() map[string]string {
	const permission = ` must be permission bits in octal such as "0440"`
	return map[string]string{
		"alias with ..":            `objects[0].objectAlias: "../x" contains ".."`,
		"encoding utf-16":          `objects[0].objectEncoding: "utf-16" is none of utf-8, base64 and hex`,
		"filePermission 0o600":     `objects[0].filePermission: "0o600"` + permission, // the provider writes a file with mode 0000
		"filePermission 0888":      `objects[0].filePermission: "0888"` + permission,
		"filePermission abc":       `objects[0].filePermission: "abc"` + permission,
		"objectType 'password'":    `objects[0].objectType: "password" is none of secret, key and cert`,
		"objectType ''":            `objects[0].objectType: "" is none of secret, key and cert`,
		"no objectType":            `objects[0].objectType: "" is none of secret, key and cert`,
		"format unknown":           `objects[0].objectFormat: "jks" is neither pem nor pfx`,
		"encoding of a cert":       `objects[0].objectEncoding: is for secrets only`,
		"no objects":               `objects: is missing or empty`,
		"objects empty":            `objects: is missing or empty`,
		"no array":                 `objects: is not a mapping, or has a key twice; it must be a mapping with the key array, and in it one text for each object`,
		"a list of maps":           `objects[0]: is a mapping; the provider reads each entry as a text, write it after "- |"`,
		"no tenant":                `tenantID: is missing, the Entra ID tenant of the vault`,
		"no vault":                 `keyvaultName: is missing`,
		"keyvaultname misspelt":    `keyvaultName: is missing; "keyVaultName" is not read, did you mean keyvaultName?`,
		"vault with a dot":         `keyvaultName: "golden.evil" is not the name of a vault, 3 to 24 letters, digits and hyphens`,
		"vault too short":          `keyvaultName: "ab" is not the name of a vault, 3 to 24 letters, digits and hyphens`,
		"cloudName Mars":           `cloudName: "Mars" is not a cloud of this driver, AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureStackCloud`,
		"usePodIdentity yes":       `usePodIdentity: "yes" is neither true nor false`,
		"managed and pod identity": `useVMManagedIdentity: only one of usePodIdentity, useVMManagedIdentity and useAzureTokenProxy can be true`,
		"clientid alone":           `nodePublishSecretRef[clientsecret]: is missing; add the key to the Secret, or write clientID in the class for a workload identity`,
		"pod identity":             `usePodIdentity: is not supported, AAD Pod Identity is archived; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account`,
	}
}

// A class that the provider accepts has the same files here, apart from the mistakes that docs/reference.md lists.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	refused := ours()
	for _, answer := range answers(t) {
		want := refused[answer.Name]
		delete(refused, answer.Name)
		t.Run(answer.Name, func(t *testing.T) {
			t.Parallel()
			secrets := map[string]string{"clientid": client, "clientsecret": "x"}
			if answer.Keys != nil {
				secrets = map[string]string{}
				for _, key := range answer.Keys {
					secrets[key] = client
				}
			}
			request, err := providerclass.Request(inPod(answer.Attributes), secrets, options())
			switch {
			case errorText(err) != want:
				t.Fatalf("%v, want %q", err, want)
			case want == "" && answer.Error != "" && !answer.Vault:
				t.Fatalf("accepted; the provider: %s", answer.Error)
			case answer.Files == nil || want != "":
				return
			}
			files, ids := written(request, answer)
			// The provider writes one version more than asked for.
			wantFiles, wantIDs := maps.Clone(answer.Files), slices.Clone(answer.IDs)
			if o := request.Objects[0]; o.History != nil && len(wantIDs) > o.History.Most {
				wantIDs = wantIDs[:o.History.Most]
				maps.DeleteFunc(wantFiles, func(p, _ string) bool { return path.Base(p) == strconv.Itoa(o.History.Most) })
			}
			if diff := cmp.Diff(wantFiles, files); diff != "" {
				t.Errorf("files (-provider +here):\n%s", diff)
			}
			if diff := cmp.Diff(wantIDs, ids); diff != "" {
				t.Errorf("ids (-provider +here):\n%s", diff)
			}
		})
	}
	if len(refused) > 0 {
		t.Errorf("no such answers: %v", refused)
	}
}

// written returns the files and the ids of a request. Of a history that the vault does not have in full, only the versions count that
// the provider has written.
func written(request volume.Request, answer recorded) (files map[string]string, ids []string) {
	files = map[string]string{}
	for _, object := range request.Objects {
		versions := []volume.Object{object}
		if object.History != nil {
			versions = nil
			for i := range object.History.Most {
				versions = append(versions, object.History.Each(i, ""))
			}
		}
		for _, one := range versions {
			if answer.Vault && !slices.Contains(answer.IDs, one.ID) {
				continue
			}
			ids = append(ids, one.ID)
			for _, output := range one.Outputs {
				files[output.Path] = fmt.Sprintf("%04o", output.Mode)
			}
		}
	}
	return files, ids
}
