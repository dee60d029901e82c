package migrate_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
)

// The model answers as the provider did, except where what the vault holds decides. Each Secret had a login unless its keys are named.
func TestProviderModel(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../test/provider/testdata/recorded/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Name               string
		Parameters, Secret map[string]string
		Files              []struct{ Path, Mode string }
		Fails              bool
		Vault              bool // what the vault holds decides
	}
	if err := json.Unmarshal(data, &answers); err != nil {
		t.Fatal(err)
	}
	if len(answers) < 50 {
		t.Fatalf("%d answers", len(answers))
	}
	for _, answer := range answers {
		t.Run(answer.Name, func(t *testing.T) {
			t.Parallel()
			login := &loginSecret{"login", map[string]string{}}
			for key := range answer.Secret {
				login.keys[strings.ToLower(key)] = "x"
			}
			if answer.Secret == nil {
				login.keys = nil
			}
			a, err := provide(answer.Parameters, login)
			modes, recorded := map[string]string{}, map[string]string{}
			for path, file := range a.files {
				modes[path] = file.mode
			}
			for _, file := range answer.Files {
				recorded[file.Path] = file.Mode
			}
			switch {
			case answer.Vault:
			case answer.Name == "usePodIdentity: true": // AAD Pod Identity did not run when the answers were recorded
				if err != nil {
					t.Error(err)
				}
			case recorded["plain"] == "0000": // see providerObject.mode
				if err == nil {
					t.Error("the model accepts a file that nobody can read")
				}
			case answer.Name == "objects: mappings and not texts": // see providerFiles
				if err != nil || !answer.Fails {
					t.Errorf("the model answers %v, the provider fails: %t", err, answer.Fails)
				}
			case (err != nil) != answer.Fails:
				t.Errorf("the model answers %v, the provider fails: %t", err, answer.Fails)
			case err == nil && !maps.Equal(modes, recorded):
				t.Errorf("the model writes\n%v\nthe provider %v", a, recorded)
			}
		})
	}
}
