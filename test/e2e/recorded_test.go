package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

// recordings is the folder of the recorded runs of the init container.
const recordings = "../../test/golden/testdata/recorded"

// recordedRun is a run of the init container, as test/golden/testdata/recorded describes.
type recordedRun struct {
	folder      string
	environment map[string]string
	azure       struct{ TenantID, AADClientID string }
	vaults      struct {
		Vaults []struct{ Secrets, Certificates []recordedObject }
	}
}

type recordedObject struct {
	Name     string
	Versions []struct {
		Version, Value, ContentType string
		CER                         []byte
		Tags                        map[string]string
		Disabled                    bool
	}
}

func readRun(t *testing.T, name string) recordedRun {
	t.Helper()
	r := recordedRun{folder: path.Join(recordings, name)}
	for file, into := range map[string]any{"env.json": &r.environment, "azure.json": &r.azure, "vault.json": &r.vaults} {
		if err := json.Unmarshal([]byte(read(t, path.Join(r.folder, file))), into); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// fill adds the objects of the run's vault.
func (v vault) fill(t *testing.T, r recordedRun) {
	t.Helper()
	for _, recorded := range r.vaults.Vaults {
		for _, o := range recorded.Secrets {
			for _, version := range o.Versions {
				v.admin(t, "/secrets", object{
					"vault": v.name, "name": o.Name, "version": version.Version, "value": version.Value,
					"contentType": version.ContentType, "tags": version.Tags, "disabled": version.Disabled,
				})
			}
		}
		for _, o := range recorded.Certificates {
			for _, version := range o.Versions {
				v.admin(t, "/certificates", object{
					"vault": v.name, "name": o.Name, "version": version.Version, "secret": version.Value, "cer": version.CER,
					"contentType": version.ContentType, "tags": version.Tags, "disabled": version.Disabled,
				})
			}
		}
	}
}

// addFiles adds the files of the run below a folder: modes in the format of ls, and bytes.
func (r recordedRun) addFiles(t *testing.T, tree map[string]string, folder string) {
	t.Helper()
	var result struct {
		Files []struct {
			Path, Mode string
			Dir        bool
		}
	}
	if err := json.Unmarshal([]byte(read(t, path.Join(r.folder, "result.json"))), &result); err != nil {
		t.Fatal(err)
	}
	for _, f := range result.Files {
		name := f.Path
		if folder != "" {
			var below bool
			if name, below = strings.CutPrefix(name, folder+"/"); !below {
				continue
			}
		}
		bits, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		mode, data := fs.FileMode(bits), ""
		if f.Dir {
			mode |= fs.ModeDir
		} else {
			data = read(t, path.Join(r.folder, "tree", f.Path))
		}
		tree[name] = mode.String() + " " + data
	}
	if len(tree) == 0 {
		t.Fatalf("%s left no files in %q", r.folder, folder)
	}
}

func read(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
