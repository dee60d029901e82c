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

// recorded is an answer of the provider 1.8 to one class. The README beside the file describes it.
type recorded struct {
	Name       string
	Parameters map[string]string
	Secret     map[string]string // absent: clientid and clientsecret
	Files      []struct{ Path, Mode string }
	Versions   []struct{ ID string }
	Fails      bool
	Vault      bool // what the vault holds decides the answer
}

func answers(t testing.TB) (all []recorded) {
	t.Helper()
	data, err := os.ReadFile("../../test/provider/testdata/recorded/answers.json")
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
		"objectAlias: with two dots":                `objects[0].objectAlias: "../x" contains ".."`,
		"objectEncoding: utf-16":                    `objects[0].objectEncoding: "utf-16" is none of utf-8, base64 and hex`,
		"filePermission: 0o600":                     `objects[0].filePermission: "0o600"` + permission, // the provider writes a file with mode 0000
		"filePermission: 0888":                      `objects[0].filePermission: "0888"` + permission,
		"filePermission: abc":                       `objects[0].filePermission: "abc"` + permission,
		"objectType: password":                      `objects[0].objectType: "password" is none of secret, key and cert`,
		"objectType: empty":                         `objects[0].objectType: "" is none of secret, key and cert`,
		"objectType: missing":                       `objects[0].objectType: "" is none of secret, key and cert`,
		"objectFormat: jks":                         `objects[0].objectFormat: "jks" is neither pem nor pfx`,
		"objectEncoding: base64 of a cert":          `objects[0].objectEncoding: is for secrets only`,
		"objects: missing":                          `objects: is missing or empty`,
		"objects: empty":                            `objects: is missing or empty`,
		"objects: a list":                           `objects: is not a mapping, or has a key twice; it must be a mapping with the key array, and in it one text for each object`,
		"objects: mappings and not texts":           `objects[0]: is a mapping; the provider reads each entry as a text, write it after "- |"`,
		"tenantID: missing":                         `tenantID: is missing, the Entra ID tenant of the vault`,
		"keyvaultName: missing":                     `keyvaultName: is missing`,
		"keyvaultName: misspelt":                    `keyvaultName: is missing; "keyVaultName" is not read, did you mean keyvaultName?`,
		"keyvaultName: with a dot":                  `keyvaultName: "golden.evil" is not the name of a vault, 3 to 24 letters, digits and hyphens`,
		"keyvaultName: of two letters":              `keyvaultName: "ab" is not the name of a vault, 3 to 24 letters, digits and hyphens`,
		"cloudName: Mars":                           `cloudName: "Mars" is not a cloud of this driver, AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureStackCloud`,
		"usePodIdentity: yes":                       `usePodIdentity: "yes" is neither true nor false`,
		"useVMManagedIdentity: with usePodIdentity": `useVMManagedIdentity: only one of usePodIdentity, useVMManagedIdentity and useAzureTokenProxy can be true`,
		"Secret: without clientsecret":              `nodePublishSecretRef[clientsecret]: is missing; add the key to the Secret, or write clientID in the class for a workload identity`,
		"usePodIdentity: true":                      `usePodIdentity: is not supported, AAD Pod Identity is archived; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account`,
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
			if answer.Secret != nil {
				secrets = answer.Secret
			}
			request, err := providerclass.Request(inPod(answer.Parameters), secrets, options())
			switch {
			case errorText(err) != want:
				t.Fatalf("%v, want %q", err, want)
			case want == "" && answer.Fails && !answer.Vault:
				t.Fatal("accepted; the provider fails")
			case answer.Fails || want != "":
				return
			}
			wantFiles, wantIDs := answer.files(), answer.ids()
			files, ids := written(request, answer.Vault, wantIDs)
			// The provider writes one version more than asked for.
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

func (r recorded) files() map[string]string {
	modes := map[string]string{}
	for _, file := range r.Files {
		modes[file.Path] = file.Mode
	}
	return modes
}

func (r recorded) ids() (ids []string) {
	for _, version := range r.Versions {
		ids = append(ids, version.ID)
	}
	return ids
}

// written returns the files and the ids of a request. Of a history that the vault does not have in full, only the versions count that
// the provider has written.
func written(request volume.Request, vault bool, answered []string) (files map[string]string, ids []string) {
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
			if vault && !slices.Contains(answered, one.ID) {
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
