package migrate_test

import (
	"encoding/json"
	"maps"
	"os"
	"testing"
)

// The model answers as the provider did. The answers are those that do not depend on what the vault holds; each Secret had a
// login unless its keys are named.
func TestProviderModel(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/provider/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Name       string
		Attributes map[string]string
		Keys       []string          // of the Secret
		Files      map[string]string // the modes by path
		Error      string
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
				login.keys[key] = "x"
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
