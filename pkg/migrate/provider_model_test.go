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
	data, err := os.ReadFile("../providerclass/testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Name       string
		Attributes map[string]string
		Keys       []string          // of the Secret
		Files      map[string]string // the modes by path
		Error      string
		Vault      bool // what the vault holds decides
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
			for _, key := range answer.Keys {
				login.keys[strings.ToLower(key)] = "x"
			}
			if answer.Keys == nil {
				login.keys = nil
			}
			a, err := provide(answer.Attributes, login)
			modes := map[string]string{}
			for path, file := range a.files {
				modes[path] = file.mode
			}
			switch {
			case answer.Vault:
			case answer.Name == "pod identity": // it was not there to answer
				if err != nil {
					t.Error(err)
				}
			case strings.HasPrefix(answer.Name, "filePermission ") && answer.Files["plain"] == "0000": // see providerObject.mode
				if err == nil {
					t.Error("the model accepts a file that nobody can read")
				}
			case answer.Name == "a list of maps": // see providerFiles
				if err != nil || answer.Error == "" {
					t.Errorf("the model answers %v, the provider %q", err, answer.Error)
				}
			case (err != nil) != (answer.Error != ""):
				t.Errorf("the model answers %v, the provider %q", err, answer.Error)
			case err == nil && !maps.Equal(modes, answer.Files):
				t.Errorf("the model writes\n%v\nthe provider %v", a, answer.Files)
			}
		})
	}
}
